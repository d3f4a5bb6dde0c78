"""Verifies what docs/SPOOL.md promises of the files, every waiting picture's checksum included. Changes nothing."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from crow_daemon.spool.format import SUFFIX
from crow_daemon.spool.recovery import Recovered, recover
from crow_daemon.spool.segment import SegmentReader
from crow_shared.disk import locked_directory
from crow_shared.errors import CrowError, Kind


@dataclass(frozen=True, slots=True)
class Checked:
    """What was looked at, and what is wrong: one sentence each."""

    segments: int
    frames: int
    violations: list[str]


def check(directory: Path) -> Checked:
    """Looks at every byte of the spool. Beside a running daemon, too: the record that it is writing is passed over.

    Raises CrowError(NOT_FOUND) where no daemon has spooled yet, CrowError(UNAVAILABLE) when files cannot be read.
    """
    if not directory.is_dir():
        raise CrowError(Kind.NOT_FOUND, "no_spool", f"there is no spool in {directory}")
    in_use = _in_use(directory)
    found = recover(directory)
    violations = [*_records(found, in_use=in_use), *_files(directory)]
    frames, damaged = _pictures(directory, found)
    return Checked(len(found.segments), frames, [*violations, *damaged])


def _in_use(directory: Path) -> bool:
    try:
        os.close(locked_directory(directory))
    except CrowError:
        return True
    except OSError as error:
        raise CrowError(Kind.UNAVAILABLE, "spool_unavailable", f"{directory}: {error.strerror}") from error
    return False


def _records(found: Recovered, *, in_use: bool) -> Iterator[str]:
    newest = max(found.segments, default=0)
    for number, damage in found.damages:
        if in_use and number == newest and damage.offset >= found.segments[number].end:
            continue
        yield f"segment {number}: {damage.end - damage.offset} bytes from {damage.offset} on are no valid record"
    for number, camera_id, seq in found.doubles:
        yield f"segment {number}: frame {seq} of camera {camera_id} is there a second time"
    for hole, frames in found.unexplained:
        span = f"{hole.from_seq} to {hole.to_seq} of camera {hole.camera_id}"
        yield f"{frames} frames from {span} are nowhere and no record says why; they count as {hole.reason}"


def _files(directory: Path) -> Iterator[str]:
    for path in sorted(directory.iterdir()):
        if path.name != "quarantine" and not (path.suffix == SUFFIX and path.stem.isdecimal()):
            yield f"{path} is no file of the spool"
        elif path.stat().st_mode & 0o077:
            yield f"{path} can be read by others than its owner"


def _pictures(directory: Path, found: Recovered) -> tuple[int, list[str]]:
    """How many frames wait, and which of them are damaged."""
    frames, damaged = 0, []
    for segment in found.segments.values():
        try:
            reader = SegmentReader(directory, segment)
        except FileNotFoundError:
            continue  # the running daemon has delivered all of it
        try:
            for entry in reader.entries:
                header = entry.header.frame
                if not found.accounts.is_waiting(segment.epoch, header.camera_id, header.seq):
                    continue
                frames += 1
                payload = reader.payload(entry)
                if len(payload) != entry.header.payload_bytes or crc32(payload) != header.crc32:
                    damaged.append(
                        f"segment {segment.number}: frame {header.seq} of camera {header.camera_id} is damaged"
                    )
        except OSError as error:
            damaged.append(f"segment {segment.number}: the disk does not read it: {error.strerror}")
        finally:
            reader.close()
    return frames, damaged
