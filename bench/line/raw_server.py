"""The floor: frames over a socket, as cheap as Python reads them; with a directory, made durable before the answer.

Arguments: [DIRECTORY]. A frame is its length in four bytes and its bytes; each `GROUP` frames the count so far is
answered, after one fdatasync where a directory is given. Connections are served in threads, as files of their own.
"""

import os
import socket
import struct
import sys
import threading
from pathlib import Path

import party

GROUP = 16
COUNT = struct.Struct(">Q")
LENGTH = struct.Struct(">I")


def main() -> None:
    """Serves until it is ended."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    listening = socket.create_server(("127.0.0.1", 0))
    party.ready(port=listening.getsockname()[1])
    for number in range(1 << 30):
        connection, _ = listening.accept()
        file = None
        if directory is not None:
            file = os.open(directory / f"{number}.frames", os.O_CREAT | os.O_WRONLY)
        threading.Thread(target=serve, args=(connection, file), daemon=True).start()


def serve(connection: socket.socket, file: int | None) -> None:
    """Takes the frames of one sender."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = memoryview(bytearray(4 << 20))
    count = 0
    while filled(connection, buffer[: LENGTH.size]):
        frame = buffer[: LENGTH.unpack_from(buffer)[0]]
        if not filled(connection, frame):
            return
        if file is not None:
            os.write(file, frame)
        count += 1
        if count % GROUP == 0:
            if file is not None:
                os.fdatasync(file)
            connection.sendall(COUNT.pack(count))


def filled(connection: socket.socket, view: memoryview) -> bool:
    """Fills the view; False when the sender has left."""
    while view:
        received = connection.recv_into(view)
        if not received:
            return False
        view = view[received:]
    return True


if __name__ == "__main__":
    main()
