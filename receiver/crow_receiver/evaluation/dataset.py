"""A data set: a folder with `dataset.toml`, `labels.jsonl` and, unless they come from clips, pictures.

docs/EVALUATION.md describes the format for people.

Invariants, checked before the first frame is given out
1. Every line agrees with itself, with the camera it names, and with what `dataset.toml` says is labelled.
2. The frames of a camera are in order of time, and none of them twice.
3. A picture lies within the folder; a clip has the checksum that `dataset.toml` pins.
"""

import tomllib
from dataclasses import dataclass
from hashlib import file_digest
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from crow_receiver.evaluation.labels import Label, Labelled
from crow_receiver.vision.zones import areas
from crow_shared.errors import CrowError, Kind
from crow_shared.zones import ELSEWHERE_ZONE, Polygon, Zone, ZoneKind, checked_zones

DESCRIPTION_FILE, LABELS_FILE = "dataset.toml", "labels.jsonl"
_LONGEST_LINE_BYTES = 64 << 10
_SAME_TIME_S = 1e-6


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AreaEntry(_Strict):
    """A named area of a camera's picture, as `crow_shared.zones.Zone`."""

    name: str
    points: Polygon


class CameraEntry(_Strict):
    """One camera. With a `clip`, its frames are that clip's, one each `interval_s`; else each label has a picture."""

    name: str
    zones: tuple[AreaEntry, ...] = ()
    clip: str | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    interval_s: Annotated[float, Field(gt=0, le=3600)] | None = None

    @model_validator(mode="after")
    def _names_a_clip_with_its_checksum(self) -> Self:
        if len({value is None for value in (self.clip, self.sha256, self.interval_s)}) > 1:
            raise ValueError("clip, sha256 and interval_s belong together")
        return self

    @property
    def areas(self) -> tuple[Zone, ...]:
        """The areas as everything else knows them. Raises CrowError(INVALID) for what is no area."""
        return checked_zones(Zone(area.name, ZoneKind.AREA, area.points) for area in self.zones)


class Description(_Strict):
    """What `dataset.toml` says."""

    format: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    licence: str
    about: str
    labelled: Annotated[frozenset[Labelled], Field(min_length=1)]
    cameras: Annotated[dict[str, CameraEntry], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set whose labels are checked; `clips` is where the clips lie."""

    folder: Path
    clips: Path
    description: Description
    labels: tuple[Label, ...]
    labels_sha256: str

    def of_camera(self, camera: str) -> tuple[Label, ...]:
        """The labels of one camera, in order of time."""
        return tuple(label for label in self.labels if label.camera == camera)

    @property
    def labelled(self) -> int:
        """How many frames have a label."""
        return sum(bool(label.labelled) for label in self.labels)


def load_dataset(folder: Path, clips: Path | None = None) -> DataSet:
    """Reads and checks a data set whose clips lie in `clips`, or in its folder.

    Raises CrowError: NOT_FOUND for a missing file, INVALID with its line for a description or a label that is wrong,
    CORRUPT for a clip with another checksum.
    """
    described = _read(folder / DESCRIPTION_FILE)
    try:
        description = Description.model_validate(tomllib.loads(described.decode("utf-8")))
        zones = {camera: entry.areas for camera, entry in description.cameras.items()}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _wrong(folder / DESCRIPTION_FILE, str(error)) from None
    except ValidationError as error:
        raise _wrong(folder / DESCRIPTION_FILE, _faults(error)) from None
    except CrowError as error:
        raise _wrong(folder / DESCRIPTION_FILE, error.message) from None
    labels_file = folder / LABELS_FILE
    data = _read(labels_file)
    labels = [_label(labels_file, number, line) for number, line in enumerate(data.splitlines(), 1)]
    for number, label in enumerate(labels, 1):
        fault = _fault(label, description, zones, folder)
        if fault:
            raise _wrong(labels_file, fault, number)
    _check_order(labels_file, labels)
    dataset = DataSet(folder, clips or folder, description, tuple(labels), _sha256(labels_file))
    never = description.labelled.difference(*(label.labelled for label in labels))
    if never:
        raise _wrong(labels_file, f"{', '.join(sorted(never))}: labelled according to {DESCRIPTION_FILE}, but nowhere")
    for entry in description.cameras.values():
        _check_clip(dataset.clips, entry)
    return dataset


def _label(file: Path, number: int, line: bytes) -> Label:
    if len(line) > _LONGEST_LINE_BYTES:
        raise _wrong(file, f"longer than {_LONGEST_LINE_BYTES} bytes", number)
    try:
        return Label.model_validate_json(line)
    except ValidationError as error:
        raise _wrong(file, _faults(error), number) from None


def _fault(label: Label, description: Description, zones: dict[str, tuple[Zone, ...]], folder: Path) -> str:
    """What is wrong with a label that agrees with itself; empty if nothing is."""
    camera = description.cameras.get(label.camera)
    if camera is None:
        return f"there is no camera {label.camera!r} in {DESCRIPTION_FILE}"
    undeclared = label.labelled - description.labelled
    if undeclared:
        return f"{', '.join(sorted(undeclared))}: not among what is labelled according to {DESCRIPTION_FILE}"
    known = {zone.name for zone in areas(zones[label.camera])} | {ELSEWHERE_ZONE}
    for person in label.people or ():
        if person.zone is not None and person.zone not in known:
            return f"{person.zone!r} is no zone of camera {label.camera!r} ({', '.join(sorted(known))})"
    if camera.interval_s is not None:
        samples = label.time_s / camera.interval_s
        if label.file is not None:
            return f"camera {label.camera!r} has a clip, so a label of it has no file"
        if abs(samples - round(samples)) * camera.interval_s > _SAME_TIME_S:
            return f"{label.time_s:g} s is no multiple of the clip's interval_s, {camera.interval_s:g}"
        return ""
    return _picture_fault(label, folder)


def _picture_fault(label: Label, folder: Path) -> str:
    if label.file is None:
        return f"camera {label.camera!r} has no clip, so the label needs a file"
    path = PurePosixPath(label.file)
    if path.is_absolute() or ".." in path.parts:
        return f"{label.file!r} leads out of the data set"
    return "" if (folder / path).is_file() else f"there is no picture {label.file!r}"


def _check_order(file: Path, labels: list[Label]) -> None:
    for camera in {label.camera for label in labels}:
        own = [(number, label) for number, label in enumerate(labels, 1) if label.camera == camera]
        for (_, before), (number, label) in pairwise(own):
            if label.time_s <= before.time_s + _SAME_TIME_S:
                what = f"{label.time_s:g} s of camera {camera!r} comes after {before.time_s:g} s"
                raise _wrong(file, f"{what}: frames of a camera are in order, and each is there once", number)


def _check_clip(clips: Path, entry: CameraEntry) -> None:
    if entry.clip is None:
        return
    path = clips / entry.clip
    found = _sha256(path)
    if found != entry.sha256:
        raise CrowError(Kind.CORRUPT, "clip_other", f"{path} has SHA-256 {found} and should have {entry.sha256}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> CrowError:
    return CrowError(Kind.NOT_FOUND, "file_missing", f"cannot read {path}: {error.strerror}")


def _faults(error: ValidationError) -> str:
    faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}".removeprefix(": ") for fault in error.errors())
    return "; ".join(faults)


def _wrong(file: Path, what: str, line: int | None = None) -> CrowError:
    place = f"{file}, line {line}" if line is not None else f"{file}"
    return CrowError(Kind.INVALID, "bad_dataset", f"{place}: {what}")
