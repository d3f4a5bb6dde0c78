"""Packets of all cameras through libav's demuxer, a thread each, and nothing done with them. Arguments: URLs.

For each line on standard input it prints how many packets and bytes have come.
"""

import sys
import threading

import av

packets = [0] * len(sys.argv)
sizes = [0] * len(sys.argv)


def read(number: int, url: str) -> None:
    """Until the process ends."""
    options = {"rtsp_transport": "tcp", "fpsprobesize": "0", "analyzeduration": "500000"}
    with av.open(url, options=options) as container:
        for packet in container.demux(video=0):
            packets[number] += 1
            sizes[number] += packet.size


for number, url in enumerate(sys.argv[1:]):
    threading.Thread(target=read, args=(number, url), daemon=True).start()
for _ in sys.stdin:
    print(sum(packets), sum(sizes), flush=True)
