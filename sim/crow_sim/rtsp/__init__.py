"""An RTSP server for tests and the demo: encoded files served in a loop, with faults on demand."""

from crow_sim.rtsp.faults import Faults
from crow_sim.rtsp.packing import Packing
from crow_sim.rtsp.server import RtspServer, ThreadedRtspServer
from crow_sim.rtsp.wire import SeenRequest

__all__ = ["Faults", "Packing", "RtspServer", "SeenRequest", "ThreadedRtspServer"]
