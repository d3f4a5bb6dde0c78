"""Installed models: `<directory>/<name>/` holds `model.gguf`, `mmproj.gguf` and `manifest.json` with their checksums.

Invariants
1. A model is installed when its manifest is there; the manifest is written last and removed first.
2. A file gets its final name when it is complete and synced; before that it is called `….part`. A file in place is
   replaced, never written to, because a loaded model is mapped into memory.
3. The checksums are those of the catalogue, or of the bytes that were added by hand. Whoever loads a model hashes its
   files and compares (`check_file`): each time, without a cache of file times, because a file that rots keeps its time,
   and because loading reads every byte anyway.
4. One process changes a model at a time (`changing`).
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crow_shared.errors import CrowError, Kind
from crow_shared.identity import checked_id

MODEL_FILE, MMPROJ_FILE, MANIFEST_FILE = "model.gguf", "mmproj.gguf", "manifest.json"
AUTO = "auto"
_LOCK_FILE = ".lock"
_CHUNK_BYTES = 1 << 20
_SHA256 = r"^[0-9a-f]{64}$"

Progress = Callable[[int], object]  # is told how many more bytes are done; negative when work is lost


def _no_progress(_: int) -> None: ...


class FileNote(BaseModel):
    """What one file has to be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern=_SHA256)
    size_bytes: int = Field(gt=0)


class Manifest(BaseModel):
    """What an installed model consists of; `source` says for people where it came from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: FileNote
    mmproj: FileNote
    source: str


class InstalledModel(BaseModel):
    """A model that lies in the store."""

    model_config = ConfigDict(frozen=True)

    name: str
    directory: Path
    manifest: Manifest

    @property
    def model_path(self) -> Path:
        """The text model."""
        return self.directory / MODEL_FILE

    @property
    def mmproj_path(self) -> Path:
        """The vision tower and its projection."""
        return self.directory / MMPROJ_FILE

    @property
    def size_bytes(self) -> int:
        """Of both files."""
        return self.manifest.model.size_bytes + self.manifest.mmproj.size_bytes


class ModelStore:
    """The models of one directory. Nothing is made before something is installed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def place(self, name: str) -> Path:
        """Where the files of `name` lie or would lie. Raises CrowError(INVALID) for a name that cannot be one."""
        if name == AUTO:
            raise CrowError(Kind.INVALID, "bad_id", f"{AUTO!r} stands for any installed model and names none")
        return self.directory / checked_id(name, "model name")

    def installed(self) -> list[InstalledModel]:
        """All installed models by name. Raises CrowError(CORRUPT) for a manifest that cannot be read."""
        return [_read_manifest(path) for path in sorted(self.directory.glob(f"*/{MANIFEST_FILE}"))]

    def find(self, name: str) -> InstalledModel | None:
        """The installed model of that name, or for "auto" the largest one, which describes best; None without.

        Its files are not looked at: `verify` does that, or `check_file` in the process that loads them. Raises
        CrowError(CORRUPT) for a manifest that cannot be read.
        """
        if name == AUTO:
            return max(self.installed(), key=lambda model: model.manifest.model.size_bytes, default=None)
        path = self.place(name) / MANIFEST_FILE
        return _read_manifest(path) if path.exists() else None

    def get(self, name: str) -> InstalledModel:
        """As `find`, but raises CrowError(NOT_FOUND), naming what there is, instead of returning None."""
        model = self.find(name)
        if model is None:
            there = ", ".join(model.name for model in self.installed()) or "none"
            raise CrowError(
                Kind.NOT_FOUND,
                "model_missing",
                f"model {name!r} is not installed in {self.directory} (installed: {there})",
            )
        return model

    def verify(self, name: str, progress: Progress = _no_progress) -> InstalledModel:
        """Hashes both files of a model; seconds per gigabyte. Raises CrowError as `get` and `check_file` do."""
        model = self.get(name)
        check_file(model.model_path, model.manifest.model.sha256, progress)
        check_file(model.mmproj_path, model.manifest.mmproj.sha256, progress)
        return model

    @contextmanager
    def changing(self, name: str) -> Iterator[Path]:
        """The directory of `name`, made where needed, for this process alone to change.

        Raises CrowError(CONFLICT) while another process changes that model, UNAVAILABLE when the disk does not let us.
        """
        directory = self.place(name)
        with disk_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
            lock = (directory / _LOCK_FILE).open("wb")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CrowError(
                    Kind.CONFLICT, "model_busy", f"another process is changing model {name!r} in {self.directory} now"
                ) from None
            yield directory

    def install(self, name: str, manifest: Manifest) -> InstalledModel:
        """Declares the files in `place(name)` to be a model.

        The caller holds `changing(name)`, has put the files there and knows that they are what the manifest says.
        """
        directory = self.place(name)
        part = directory / f"{MANIFEST_FILE}.part"
        with disk_errors(part):
            with part.open("w", encoding="utf-8") as file:
                file.write(manifest.model_dump_json(indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            part.replace(directory / MANIFEST_FILE)
        return InstalledModel(name=name, directory=directory, manifest=manifest)

    def add(
        self,
        name: str,
        model: Path,
        mmproj: Path,
        *,
        expected: Manifest | None = None,
        progress: Progress = _no_progress,
    ) -> InstalledModel:
        """Copies files in and records their checksums, which have to be those of `expected`, if that is given.

        Raises CrowError: CONFLICT when the name is taken, INVALID for a file that is no GGUF, NOT_FOUND for one that is
        missing, CORRUPT for one that is not as expected; nothing is installed then.
        """
        for source in (model, mmproj):
            _check_is_gguf(source)
        with self.changing(name) as directory:
            if (directory / MANIFEST_FILE).exists():
                raise CrowError(Kind.CONFLICT, "model_exists", f"a model {name!r} is installed; remove it first")
            manifest = Manifest(
                model=_copied(model, directory / MODEL_FILE, expected.model if expected else None, progress),
                mmproj=_copied(mmproj, directory / MMPROJ_FILE, expected.mmproj if expected else None, progress),
                source=expected.source if expected else "added by hand",
            )
            return self.install(name, manifest)

    def remove(self, name: str) -> None:
        """Deletes a model with all that was fetched of it. Raises CrowError(NOT_FOUND) when there is nothing."""
        directory = self.place(name)
        if not directory.is_dir():
            self.get(name)
        with self.changing(name), disk_errors(directory):
            (directory / MANIFEST_FILE).unlink(missing_ok=True)
            shutil.rmtree(directory)


def check_file(path: Path, sha256: str, progress: Progress = _no_progress) -> None:
    """Raises CrowError: CORRUPT, with both checksums, when the file does not have this one; NOT_FOUND without it."""
    hasher = hashlib.sha256()
    for chunk in chunks(path):
        hasher.update(chunk)
        progress(len(chunk))
    if hasher.hexdigest() != sha256:
        raise mismatch(path, hasher.hexdigest(), sha256)


def mismatch(path: Path, found: str, expected: str) -> CrowError:
    """The error for a file that is not what it should be."""
    return CrowError(Kind.CORRUPT, "model_corrupt", f"{path} has SHA-256 {found} and should have {expected}")


def chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file in order. Raises CrowError: NOT_FOUND without it, UNAVAILABLE when it cannot be read."""
    with disk_errors(path), path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _read_manifest(path: Path) -> InstalledModel:
    try:
        with disk_errors(path):
            manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise CrowError(Kind.CORRUPT, "manifest_corrupt", f"{path} is no model manifest ({faults})") from None
    return InstalledModel(name=path.parent.name, directory=path.parent, manifest=manifest)


def _copied(source: Path, target: Path, expected: FileNote | None, progress: Progress) -> FileNote:
    hasher, size_bytes = hashlib.sha256(), 0
    part = target.with_name(f"{target.name}.part")
    with disk_errors(part), part.open("wb") as file:
        for chunk in chunks(source):
            file.write(chunk)
            hasher.update(chunk)
            size_bytes += len(chunk)
            progress(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    if expected and hasher.hexdigest() != expected.sha256:
        part.unlink()
        raise mismatch(source, hasher.hexdigest(), expected.sha256)
    with disk_errors(target):
        part.replace(target)
    return FileNote(sha256=hasher.hexdigest(), size_bytes=size_bytes)


def _check_is_gguf(path: Path) -> None:
    if next(chunks(path), b"")[:4] != b"GGUF":
        raise CrowError(Kind.INVALID, "not_gguf", f"{path} is no GGUF file")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what the file system raises about `path` into CrowError: NOT_FOUND, else UNAVAILABLE."""
    try:
        yield
    except FileNotFoundError:
        raise CrowError(Kind.NOT_FOUND, "file_missing", f"there is no file {path}") from None
    except OSError as error:
        raise CrowError(Kind.UNAVAILABLE, "models_unavailable", f"cannot use {path}: {error.strerror}") from None
