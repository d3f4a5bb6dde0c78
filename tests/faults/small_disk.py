"""Small file systems that can be filled up, or that turn read-only under whoever uses them; skipped without rights."""

import errno
import os
import subprocess
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

FILLER = "filler"


class SmallDisk:
    """A tmpfs of so many bytes, mounted at `directory`."""

    def __init__(self, directory: Path, size_bytes: int) -> None:
        self.directory = directory
        self._size_bytes = size_bytes

    def fill(self) -> None:
        """Leaves no byte free."""
        with (self.directory / FILLER).open("ab", buffering=0) as filler:
            for piece_bytes in (1 << 20, 4096, 1):
                while _has_room(filler, piece_bytes):
                    pass

    def free(self) -> None:
        """Takes back what `fill` took."""
        (self.directory / FILLER).unlink()

    def _mount(self) -> None:
        _mounted("mount", "-t", "tmpfs", "-o", f"size={self._size_bytes}", "crow", str(self.directory))

    def __enter__(self) -> Self:
        """Mounts it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._mount()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Unmounts it."""
        subprocess.run(["umount", "--lazy", self.directory], check=True)


class FragileDisk(SmallDisk):
    """An ext4 on a loop device, which turns read-only at an error as a shop's disk does."""

    def break_down(self) -> None:
        """An error of the file system: from now on every write fails with EROFS, on open files too."""
        device = subprocess.run(
            ["findmnt", "-no", "SOURCE", self.directory], capture_output=True, text=True, check=True
        ).stdout.strip()
        Path(f"/sys/fs/ext4/{Path(device).name}/trigger_fs_error").write_text("1\n")

    def repair(self) -> None:
        """What an operator does, the service being stopped: unmount, check, mount."""
        subprocess.run(["umount", self.directory], check=True)
        checked = subprocess.run(["e2fsck", "-fy", self._image], capture_output=True, text=True, check=False)
        assert checked.returncode in (0, 1), checked.stdout
        self._mount()

    @property
    def _image(self) -> Path:
        return self.directory.with_suffix(".ext4")

    def _mount(self) -> None:
        if not self._image.exists():
            self._image.touch()
            os.truncate(self._image, self._size_bytes)
            made = ("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0", str(self._image))
            _mounted(*made)
        _mounted("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.directory))


def _has_room(filler: FileIO, piece_bytes: int) -> bool:
    try:
        return filler.write(bytes(piece_bytes)) == piece_bytes
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False


def _mounted(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"{command[0]} is not installed")
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
