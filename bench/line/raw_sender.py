"""Frames from memory over a socket. Arguments: PORT PICTURES FRAMES WINDOW."""

import socket
import sys
from pathlib import Path

import party
import pictures
from raw_server import COUNT, LENGTH


def main() -> None:
    """Sends, with at most the window under way."""
    port, directory, frames, window = sys.argv[1:]
    payloads = pictures.load(Path(directory))
    with socket.create_connection(("127.0.0.1", int(port))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        party.ready()
        party.wait_for_go()
        watch = party.Stopwatch()
        number, answers = 0, b""
        while watch.answered < int(frames):
            while watch.under_way < int(window) and number < int(frames):
                payload = payloads[number % len(payloads)]
                watch.sent(number)
                connection.sendall(LENGTH.pack(len(payload)))
                connection.sendall(payload)
                number += 1
            answers += connection.recv(4096)
            while len(answers) >= COUNT.size:
                (count,) = COUNT.unpack_from(answers)
                answers = answers[COUNT.size :]
                for frame in range(watch.answered, count):
                    watch.durable(frame)
        watch.report()


if __name__ == "__main__":
    main()
