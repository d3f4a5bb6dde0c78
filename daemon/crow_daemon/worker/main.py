"""A capture worker's process. Its standard input is the daemon's socket, its standard error the daemon's log.

It may be killed at any time, by what a camera sends or by the daemon; it keeps nothing that matters. What it is told
comes over the socket alone, so that no password is in its arguments or its environment.
"""

import faulthandler
import gc
import os
import socket
import sys

import structlog

from crow_daemon.detect.on_demand import OnDemandDetector
from crow_daemon.worker.confinement import confine, limit_files, limit_memory
from crow_daemon.worker.session import Session, SourceOf, orders, source_of
from crow_daemon.worker.wire.configuration import detector_from_wire
from crow_shared import log as logging
from crow_shared.clock import SystemClock
from crow_shared.errors import CrowError

log = structlog.get_logger()


def main(source_of: SourceOf = source_of) -> None:
    """Serves the daemon until it says stop or is gone, and ends the process."""
    confine()
    faulthandler.enable(all_threads=False)  # on a crash it says where, without any value
    sock = _own_socket()
    incoming = orders(sock)
    gc.freeze()  # what is there now stays: no collection has to look at it
    first = next(incoming, None)
    if first is None:
        return
    logging.configure(first.configure.log_level, json=True)
    limit_memory(first.configure.memory_bytes)
    code = 0
    try:
        config = detector_from_wire(first.configure)
        limit_files([*first.configure.recordings, *([config.model] if config else [])])
        detector = None if config is None else OnDemandDetector(config)
        Session(sock, incoming, detector, source_of, SystemClock()).run()
    except CrowError as error:
        log.error("capture worker ends", reason=error.message)
        code = 1
    # Threads may still wait in foreign code for bytes of cameras. Taking the interpreter down around them can crash.
    sys.stderr.flush()
    os._exit(code)


def _own_socket() -> socket.socket:
    """Takes the daemon's socket away from everything else in this process."""
    sock = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return sock
