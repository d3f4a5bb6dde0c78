"""The whole daemon, as its command runs it, with a stopwatch at its spool: from the read of a frame to its release.

Arguments: FRAMES. Settings come from the environment; the spool was filled by `fill_spool.py`. The first read waits for
the word to go, when the uplink is connected already.
"""

import sys
from collections.abc import Mapping

import party

import crow_daemon.app
from crow_daemon.cli.main import main
from crow_daemon.spool.spool import Position, Spool, SpooledFrame

FRAMES = int(sys.argv[1])


class MeasuredSpool(Spool):
    """The spool, watched."""

    _watch: party.Stopwatch | None = None
    _released: dict[str, int]

    def read(self, epoch: str, after: Position, limit: int) -> list[SpooledFrame]:
        """Marks frames as sent."""
        if self._watch is None:
            party.ready()
            party.wait_for_go()
            self._watch, self._released = party.Stopwatch(), {}
        found = super().read(epoch, after, limit)
        for spooled in found:
            self._watch.sent((spooled.frame.camera_id, spooled.frame.seq))
        return found

    def release(self, epoch: str, through: Mapping[str, int]) -> None:
        """Marks frames as durable, and reports after the last."""
        watch = self._watch
        if watch is not None:
            for camera_id, seq in through.items():
                for released in range(self._released.get(camera_id, 0) + 1, seq + 1):
                    watch.durable((camera_id, released))
                self._released[camera_id] = seq
        super().release(epoch, through)
        if watch is not None and watch.answered == FRAMES:
            watch.report()


crow_daemon.app.Spool = MeasuredSpool  # type: ignore[attr-defined]
main(["run"], prog_name="crow-daemon")
