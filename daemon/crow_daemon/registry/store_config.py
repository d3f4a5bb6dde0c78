"""The configuration file of the original `cctv` tool, read into cameras, and written.

It is YAML: a store, settings for all of its cameras, and the cameras with their URLs, which may hold a login:

    store_id: nike_colombo_01
    motion: { enabled: true, ttl_seconds: 2 }
    grid: { rows: 2, cols: 2 }
    cameras:
      - id: cam_01
        rtsp: rtsp://192.168.1.100:554/stream
        onvif_url: http://192.168.1.100:80
        grid_position: { row: 0, col: 0 }

What is said of a field, here and in errors, never holds the login.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from crow_daemon.registry.camera import Camera, GateMode, RtspAddress
from crow_daemon.registry.secret import Credentials
from crow_daemon.registry.url import CameraUrl
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import checked_id

MAX_FILE_BYTES = 1 << 20
MAX_CAMERAS = 1000
_NO_ID = re.compile(r"[^a-z0-9_-]+")
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Said:
    """What became of one field: `place` is its path in the file."""

    place: str
    text: str
    wrong: bool = False


@dataclass(frozen=True, slots=True)
class StoreCamera:
    """One camera of the file; `fields` are those of a `Camera` that the file sets."""

    id: str
    name: str | None
    url: CameraUrl
    credentials: Credentials | None
    fields: dict[str, Any]

    def merged(self, before: Camera | None) -> Camera:
        """The camera with what the file says, and all else as it was. Raises CrowError(INVALID)."""
        username = self.credentials.username if self.credentials else None
        if before is None:
            address = RtspAddress(self.url, username)
            return Camera(self.id, self.name or self.id, address, **self.fields)
        if not isinstance(before.source, RtspAddress):
            raise CrowError(Kind.CONFLICT, "camera_is_recording", f"camera {self.id} is a recording here")
        address = replace(before.source, url=self.url, username=username or before.source.username)
        return replace(before, source=address, **self.fields)


@dataclass(slots=True)
class StoreConfig:
    """A file: its cameras, and what became of every field."""

    store_id: str | None = None
    cameras: list[StoreCamera] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)


def read_store_config(text: str) -> StoreConfig:
    """Reads a file. Fields that are wrong are told in `said`, all of them.

    Raises CrowError(INVALID) when it is no such file, CrowError(TOO_LARGE) when it is too long.
    """
    if len(text.encode()) > MAX_FILE_BYTES:
        raise CrowError(Kind.TOO_LARGE, "store_config_too_large", f"the file has over {MAX_FILE_BYTES} bytes")
    try:
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:  # its text quotes the file, which may hold passwords
        where = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise _unreadable(f"it is no YAML{where}") from None
    except (yaml.YAMLError, RecursionError):
        raise _unreadable("it is no YAML") from None
    if not isinstance(document, dict) or not isinstance(document.get("cameras"), list):
        raise _unreadable("there is no list `cameras` in it")
    if len(document["cameras"]) > MAX_CAMERAS:
        raise _unreadable(f"it has over {MAX_CAMERAS} cameras")
    return _Reading().read(document)


def write_store_config(store_id: str, cameras: Iterable[Camera]) -> tuple[str, list[Said]]:
    """The live cameras as such a file, without logins, and what could not be written."""
    said: list[Said] = []
    live: list[Camera] = []
    entries: list[dict[str, Any]] = []
    for camera in cameras:
        if not isinstance(camera.source, RtspAddress):
            said.append(Said(camera.id, "left out: a recording"))
            continue
        live.append(camera)
        entry: dict[str, Any] = {"id": camera.id, "rtsp": camera.source.url.text}
        if camera.grid_row is not None:
            entry["grid_position"] = {"row": camera.grid_row, "col": camera.grid_column}
        if camera.source.username is not None:
            said.append(Said(camera.id, "its login is left out"))
        entries.append(entry)
    document: dict[str, Any] = {"store_id": store_id}
    motions = {(camera.gate is not GateMode.OFF, camera.motion_ttl_s) for camera in live}
    if len(motions) == 1:
        ((enabled, ttl_s),) = motions
        document["motion"] = {"enabled": enabled, "ttl_seconds": ttl_s}
    elif motions:
        said.append(Said("motion", "left out: cameras differ in it"))
    places = [(camera.grid_row, camera.grid_column) for camera in live if camera.grid_row is not None]
    if places:
        rows, columns = (1 + max(numbers) for numbers in zip(*((r or 0, c or 0) for r, c in places), strict=True))
        document["grid"] = {"rows": rows, "cols": columns}
    document["cameras"] = entries
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True), said


class _Reading:
    """Goes over a document and says what becomes of each field."""

    def __init__(self) -> None:
        self._config = StoreConfig()
        self._common: dict[str, Any] = {}

    def read(self, document: dict[Any, Any]) -> StoreConfig:
        for key, value in document.items():
            match key:
                case "store_id":
                    self._config.store_id = str(value)
                case "motion":
                    self._motion(value)
                case "grid":
                    self._say("grid", "ignored: a mosaic is as large as the cameras' places in it ask for")
                case "cameras":
                    pass  # last: they take what is said for all
                case _:
                    self._say(_shown(key), "ignored: not known here")
        for index, entry in enumerate(document["cameras"]):
            self._camera(f"cameras[{index}]", entry)
        return self._config

    def _motion(self, motion: Any) -> None:
        if not isinstance(motion, dict):
            self._say("motion", "has no settings in it", wrong=True)
            return
        for key, value in motion.items():
            match key, value:
                case "enabled", bool():
                    self._common["gate"] = GateMode.ACTIVITY if value else GateMode.OFF
                    self._say("motion.enabled", f"gate {self._common['gate']} of every camera")
                case "ttl_seconds", int() | float() if not isinstance(value, bool) and 0 <= value <= 3600:
                    self._common["motion_ttl_s"] = float(value)
                    self._say("motion.ttl_seconds", f"motion_ttl_s {value:g} of every camera")
                case "enabled" | "ttl_seconds", _:
                    self._say(f"motion.{key}", "is no value that it can have", wrong=True)
                case _:
                    self._say(f"motion.{_shown(key)}", "ignored: not known here")

    def _camera(self, place: str, entry: Any) -> None:
        if not isinstance(entry, dict) or not isinstance(entry.get("rtsp"), str) or "id" not in entry:
            self._say(place, "has no id, or no rtsp URL", wrong=True)
            return
        camera_id, name = self._id(f"{place}.id", str(entry["id"]))
        try:
            url, credentials = CameraUrl.parse_with_login(entry["rtsp"])
        except CrowError as error:
            self._say(f"{place}.rtsp", error.message, wrong=True)
            return
        login = f", login {credentials.username!r}" if credentials else ""
        self._say(f"{place}.rtsp", f"url {url}{login}")
        fields = dict(self._common)
        for key, value in entry.items():
            match key:
                case "id" | "rtsp":
                    pass
                case "onvif_url":
                    self._say(
                        f"{place}.onvif_url", f"ignored; `camera discover --host {url.host}` asks the camera itself"
                    )
                case "grid_position":
                    fields |= self._grid_position(f"{place}.grid_position", value)
                case _:
                    self._say(f"{place}.{_shown(key)}", "ignored: not known here")
        camera = StoreCamera(camera_id, name, url, credentials, fields)
        try:
            camera.merged(None)
        except CrowError as error:
            self._say(place, error.message, wrong=True)
            return
        self._config.cameras.append(camera)

    def _id(self, place: str, given: str) -> tuple[str, str | None]:
        """An id that we can use, and what people call the camera if that is another word."""
        camera_id = _NO_ID.sub("-", given.lower()).strip("-_")[:63].strip("-_")
        if any(camera.id == camera_id for camera in self._config.cameras):
            self._say(place, f"another camera of the file is {camera_id!r}, too", wrong=True)
        if camera_id == given:
            return camera_id, None
        try:
            checked_id(camera_id, "camera")
        except CrowError as error:
            self._say(place, error.message, wrong=True)
        else:
            self._say(place, f"id {camera_id!r}, named {_shown(given)!r}")
        return camera_id, _shown(given)

    def _grid_position(self, place: str, value: Any) -> dict[str, int]:
        row, column = (value.get("row"), value.get("col")) if isinstance(value, dict) else (None, None)
        if type(row) is not int or type(column) is not int:
            self._say(place, "has no row and col", wrong=True)
            return {}
        self._say(place, f"grid row {row}, column {column}")
        return {"grid_row": row, "grid_column": column}

    def _say(self, place: str, text: str, *, wrong: bool = False) -> None:
        self._config.said.append(Said(place, text, wrong))


def _shown(value: Any) -> str:
    return "".join(char if char.isprintable() else " " for char in str(value)[:_SHOWN_CHARACTERS])


def _unreadable(why: str) -> CrowError:
    return CrowError(Kind.INVALID, "bad_store_config", f"this is no configuration of the cctv tool: {why}")
