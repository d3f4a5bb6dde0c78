"""The bytes of all cameras taken off their sockets four times a second, unlooked at. Arguments: URLs.

For each line on standard input it prints how many reads and bytes there were.
"""

import select
import socket
import sys
import time
from urllib.parse import urlsplit

WAKE_S = 0.25
BUFFER = bytearray(1 << 20)


def playing(url: str) -> socket.socket:
    """A connection on which the camera has begun to send."""
    address = urlsplit(url)
    sock = socket.create_connection((address.hostname, address.port), 10)
    transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
    for method, target, more in (("SETUP", f"{url}/track1", transport), ("PLAY", url, "")):
        sock.sendall(f"{method} {target} RTSP/1.0\r\nCSeq: 1\r\n{more}\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += sock.recv(1 << 16)
    sock.setblocking(False)
    return sock


def main() -> None:
    """Until the process ends."""
    sockets = [playing(url) for url in sys.argv[1:]]
    reads = size_bytes = 0
    while True:
        for sock in sockets:
            try:
                size_bytes += sock.recv_into(BUFFER)
                reads += 1
            except BlockingIOError:
                pass
        if select.select([sys.stdin], [], [], 0)[0]:
            sys.stdin.readline()
            print(reads, size_bytes, flush=True)
        time.sleep(WAKE_S)


main()
