"""Installing a model of the catalogue."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import httpx

from crow_receiver.models.catalogue import ORIGIN, CatalogueModel, RemoteFile
from crow_receiver.models.download import PAUSES_S, TIMEOUT, download, part_of
from crow_receiver.models.store import MMPROJ_FILE, MODEL_FILE, InstalledModel, ModelStore, Progress, check_file
from crow_shared.errors import CrowError, Kind

_SPARE_BYTES = 256 << 20  # left free on the disk, which the receiver's pictures and queues share


def pull(
    store: ModelStore,
    name: str,
    entry: CatalogueModel,
    progress: Progress,
    *,
    mirror: str = "",
    pauses_s: Sequence[float] = PAUSES_S,
) -> InstalledModel:
    """Fetches both files, resuming what an earlier pull left, and installs the model.

    A file that already lies in its place, put there by an earlier pull or by hand, is checked and not fetched; one that
    is not what it should be is replaced. `mirror` stands for https://huggingface.co in the catalogue's addresses.
    Raises CrowError as `download` and `ModelStore.changing` do, EXHAUSTED when the disk is too small; when the server
    cannot be reached, the message says what to put where by hand.
    """
    with store.changing(name) as directory, httpx.Client(follow_redirects=True, timeout=TIMEOUT) as client:
        files = {directory / MODEL_FILE: entry.model, directory / MMPROJ_FILE: entry.mmproj}
        missing = {target: file for target, file in files.items() if not _in_place(target, file, progress)}
        _check_space(directory, missing)
        for target, file in list(missing.items()):
            url = file.url.replace(ORIGIN, mirror.rstrip("/"), 1) if mirror else file.url
            try:
                download(client, url, target, file, progress, pauses_s)
            except CrowError as error:
                if not error.retryable:
                    raise
                raise CrowError(error.kind, error.code, f"{error.message}\n{_by_hand(name, missing)}") from None
            del missing[target]
        return store.install(name, entry.manifest)


def _in_place(target: Path, file: RemoteFile, progress: Progress) -> bool:
    if not target.exists() or target.stat().st_size != file.size_bytes:
        return False
    try:
        check_file(target, file.sha256, progress)
    except CrowError as error:
        if error.kind is not Kind.CORRUPT:
            raise
        progress(-file.size_bytes)
        return False
    return True


def _check_space(directory: Path, missing: dict[Path, RemoteFile]) -> None:
    parts = [part_of(target) for target in missing]
    there_bytes = sum(part.stat().st_size for part in parts if part.exists())
    needed_bytes = sum(file.size_bytes for file in missing.values()) - there_bytes
    free_bytes = shutil.disk_usage(directory).free
    if missing and free_bytes < needed_bytes + _SPARE_BYTES:
        raise CrowError(
            Kind.EXHAUSTED,
            "disk_full",
            f"{directory} has {free_bytes / 1e9:.1f} GB free, but {needed_bytes / 1e9:.1f} GB are to come "
            f"and {_SPARE_BYTES / 1e9:.1f} GB shall stay free",
        )


def _by_hand(name: str, missing: dict[Path, RemoteFile]) -> str:
    lines = [f"Run this again to resume. Without a network here, fetch {name} on another machine, and put"]
    for target, file in missing.items():
        lines += [f"  {file.url}", f"    ({file.size_bytes:,} bytes, SHA-256 {file.sha256})", f"    at {target}"]
    lines.append(f"then run `crow-receiver model pull {name}` again: files in their place are checked, not fetched.")
    return "\n".join(lines)
