"""Uses a real spool, under the log, and notes what it was promised.

Arguments: the spool's directory, the log, a seed, how many operations, and what is wrong on purpose ("nothing").
"""

import os
import random
import sys
from pathlib import Path
from typing import Any
from zlib import crc32

from disk_log import promise

from crow_daemon.spool.limits import SpoolLimits
from crow_daemon.spool.spool import Spool
from crow_shared.frame import Frame, TimeSource

CAMERAS = ("till", "door")
SEGMENT_BYTES = 40_000  # so that segments begin and go all the time
LIMITS = SpoolLimits(max_bytes=64 << 20)


def opened(directory: Path) -> Spool:
    """The spool as writer and judge open it."""
    return Spool(directory, LIMITS, segment_bytes=SEGMENT_BYTES)


def picture(chance: random.Random, camera_id: str) -> Frame:
    """A frame with bytes unlike all others; the spool does not look at them."""
    payload = chance.randbytes(chance.randint(1, 9000))
    return Frame.of_picture(camera_id, 1_800_000_000_000_000, TimeSource.ARRIVAL, 64, 48, payload)


def main() -> None:
    """Appends, acknowledges, seals epochs and reopens, by chance; ends without closing."""
    directory, log, chance = Path(sys.argv[1]), Path(sys.argv[2]), random.Random(sys.argv[3])
    match sys.argv[5]:
        case "no-data-sync":
            os.fdatasync = lambda fd: None  # type: ignore[assignment]
        case "no-directory-sync":
            os.fsync = lambda fd: None  # type: ignore[assignment]
    spool = opened(directory)
    for _ in range(int(sys.argv[4])):
        match chance.choices(("append", "release", "seal", "reopen"), (30, 4, 1, 1))[0]:
            case "append":
                frames = [picture(chance, chance.choice(CAMERAS)) for _ in range(chance.randint(1, 6))]
                epoch = spool.epochs()[-1]
                stored = [(epoch, f.camera_id, f.seq, crc32(f.payload)) for f in spool.append(frames)]
                promise(log, {"appended": stored})
            case "release":
                release(spool, log, chance)
            case "seal":
                spool.start_epoch()
            case _:
                spool.close()
                spool = opened(directory)
    os._exit(0)


def release(spool: Spool, log: Path, chance: random.Random) -> None:
    """The receiver has some more of the oldest epoch: from now on the spool need not keep it."""
    epoch = spool.epochs()[0]
    through: dict[str, Any] = {}
    for mark in spool.marks(epoch):
        through[mark.camera_id] = chance.randint(mark.acked_seq, mark.last_seq)
    promise(log, {"released": [(epoch, camera_id, seq) for camera_id, seq in through.items()]})
    spool.release(epoch, through)


if __name__ == "__main__":
    main()
