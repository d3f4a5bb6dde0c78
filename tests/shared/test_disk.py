"""One owner per directory, and bytes that are gone."""

import errno
import os
from pathlib import Path

import pytest

from crow_shared import disk
from crow_shared.disk import locked_directory, overwrite
from crow_shared.errors import CrowError, Kind


def test_a_directory_has_one_owner_at_a_time(tmp_path: Path) -> None:
    first = locked_directory(tmp_path)
    with pytest.raises(CrowError) as caught:
        locked_directory(tmp_path)
    assert caught.value.kind is Kind.CONFLICT
    os.close(first)
    os.close(locked_directory(tmp_path))


@pytest.mark.parametrize("can_punch", [True, False], ids=["punched", "written over"])
def test_overwritten_bytes_read_as_zeros_and_their_neighbours_stay(
    can_punch: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_punch:

        def refuse(*_: int) -> int:
            disk.ctypes.set_errno(errno.EOPNOTSUPP)
            return -1

        monkeypatch.setattr(disk, "_fallocate", refuse)
    path = tmp_path / "file"
    path.write_bytes(b"a" * 3_000_000)
    with path.open("rb+") as file:
        overwrite(file.fileno(), 1000, 2_500_000)
        overwrite(file.fileno(), 5, 0)
    assert path.read_bytes() == b"a" * 1000 + bytes(2_500_000) + b"a" * 499_000


def test_a_failed_overwrite_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * 100)
    with path.open("rb") as file, pytest.raises(OSError, match="Bad file descriptor"):
        overwrite(file.fileno(), 0, 50)
