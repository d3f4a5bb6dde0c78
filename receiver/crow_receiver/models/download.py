"""Fetching one large file whose size and checksum are known beforehand.

Invariants
1. Bytes arrive in `<target>.part`. The target appears by a rename, after the whole file had its SHA-256.
2. A part is resumed from wherever it ends, whichever server it came from: its checksum is pinned, so that no ETag has
   to say whether the rest belongs to it. A part that turns out wrong is removed.
3. A try that brought the part further is followed by others; several in a row that did not end the download. Without
   any progress the first failure does: then there is most likely no network.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from crow_receiver.models.store import FileNote, Progress, chunks, disk_errors, mismatch
from crow_shared.errors import CrowError, Kind
from crow_shared.log import redacted

PAUSES_S = (1.0, 3.0, 10.0, 30.0)  # before the tries that follow some progress
TIMEOUT = httpx.Timeout(60.0, connect=20.0)
_OK, _PARTIAL, _BAD_RANGE = httpx.codes.OK, httpx.codes.PARTIAL_CONTENT, httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE
_LOGIN = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
_GONE = (httpx.codes.NOT_FOUND, httpx.codes.GONE)


def part_of(target: Path) -> Path:
    """Where the bytes of an unfinished download lie."""
    return target.with_name(f"{target.name}.part")


def download(
    client: httpx.Client,
    url: str,
    target: Path,
    note: FileNote,
    progress: Progress,
    pauses_s: Sequence[float] = PAUSES_S,
) -> None:
    """Fetches `url` to `target`, resuming what an earlier call left; `progress` hears of resumed bytes, too.

    Raises CrowError: UNAVAILABLE when the server cannot be reached or keeps breaking off (the part stays, call again),
    NOT_FOUND and UNAUTHENTICATED as the server says, INVALID for an address that is none or leads in a circle, CORRUPT
    when the bytes are not the ones that `note` pins.
    """
    with _Part(part_of(target), note, progress) as part:
        furthest_bytes = part.size_bytes
        pauses: Iterator[float] = iter(())
        while part.size_bytes < note.size_bytes:
            try:
                _fetch_rest(client, url, part)
            except CrowError as error:
                if not error.retryable:
                    raise
                if part.size_bytes > furthest_bytes:
                    furthest_bytes, pauses = part.size_bytes, iter(pauses_s)
                pause_s = next(pauses, None)
                if pause_s is None:
                    raise
                time.sleep(pause_s)
        part.finish(target)


def _fetch_rest(client: httpx.Client, url: str, part: "_Part") -> None:
    """One request for what is missing. Whatever it brought is in the part, also when it raises."""
    headers = {"Accept-Encoding": "identity"}
    if part.size_bytes:
        headers["Range"] = f"bytes={part.size_bytes}-"
    try:
        with client.stream("GET", url, headers=headers) as response:
            _check_answer(response, url, part)
            if response.status_code == _OK:
                part.restart()
            for chunk in response.iter_raw():
                part.write(chunk)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects) as error:
        raise CrowError(Kind.INVALID, "bad_url", f"cannot fetch {redacted(url)}: {error}") from None
    except httpx.TransportError as error:
        raise CrowError(
            Kind.UNAVAILABLE, "download_failed", f"cannot fetch {redacted(url)}: {error or type(error).__name__}"
        ) from None
    if part.size_bytes < part.note.size_bytes:
        raise CrowError(Kind.UNAVAILABLE, "download_cut", f"{redacted(url)} ended before its end")


def _check_answer(response: httpx.Response, url: str, part: "_Part") -> None:
    status, wanted_bytes = response.status_code, part.note.size_bytes
    said = f"{redacted(url)} was answered with {status} {response.reason_phrase}".rstrip()
    if status == _PARTIAL:
        wanted = f"bytes {part.size_bytes}-{wanted_bytes - 1}/{wanted_bytes}"
        if response.headers.get("Content-Range") != wanted:
            other = f"{response.headers.get('Content-Range')!r} instead of {wanted!r}"
            raise CrowError(
                Kind.CORRUPT, "download_other", f"{redacted(url)} is another file than the pinned one: {other}"
            )
    elif status == _OK:
        size = response.headers.get("Content-Length")
        if size is not None and size != str(wanted_bytes):
            other = f"{size} bytes instead of {wanted_bytes}"
            raise CrowError(
                Kind.CORRUPT, "download_other", f"{redacted(url)} is another file than the pinned one: {other}"
            )
    elif status == _BAD_RANGE:
        raise CrowError(Kind.CORRUPT, "download_other", f"{redacted(url)} is shorter than the pinned file")
    elif status in _LOGIN:
        raise CrowError(Kind.UNAUTHENTICATED, "download_refused", said)
    elif status in _GONE:
        raise CrowError(Kind.NOT_FOUND, "download_missing", said)
    else:
        raise CrowError(Kind.UNAVAILABLE, "download_failed", said)


class _Part:
    """An unfinished file, hashed while it grows."""

    def __init__(self, path: Path, note: FileNote, progress: Progress) -> None:
        self.note = note
        self.size_bytes = 0
        self._path = path
        self._progress = progress
        self._hasher = hashlib.sha256()
        if path.exists():
            for chunk in chunks(path):
                self._count(chunk)
        with disk_errors(path):
            self._file = path.open("ab")
        if self.size_bytes > note.size_bytes:
            self.restart()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, chunk: bytes) -> None:
        """Appends. Raises CrowError(CORRUPT), and forgets everything, when there are more bytes than there can be."""
        if self.size_bytes + len(chunk) > self.note.size_bytes:
            self._path.unlink()
            raise CrowError(Kind.CORRUPT, "download_other", f"more than the pinned {self.note.size_bytes} bytes came")
        with disk_errors(self._path):
            self._file.write(chunk)
        self._count(chunk)

    def restart(self) -> None:
        """Starts again at the first byte."""
        with disk_errors(self._path):
            self._file.truncate(0)
        self._progress(-self.size_bytes)
        self._hasher, self.size_bytes = hashlib.sha256(), 0

    def finish(self, target: Path) -> None:
        """Makes the part the target. Raises CrowError(CORRUPT), and removes it, when it has not the pinned checksum."""
        if self._hasher.hexdigest() != self.note.sha256:
            self._path.unlink()
            raise mismatch(self._path, self._hasher.hexdigest(), self.note.sha256)
        with disk_errors(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._path.replace(target)

    def _count(self, chunk: bytes) -> None:
        self._hasher.update(chunk)
        self.size_bytes += len(chunk)
        self._progress(len(chunk))
