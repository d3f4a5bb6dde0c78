"""How cameras are shown, as text and as JSON. Nothing here ever sees a password's text."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from crow_daemon.registry.camera import Camera, Recording, RtspAddress
from crow_daemon.registry.secret import Credentials

if TYPE_CHECKING:
    from crow_daemon.checkup.report import Checkup  # loads OpenCV, which most commands do without


def camera_json(camera: Camera, credentials: Credentials | None) -> dict[str, Any]:
    """A camera in plain values; of a password, only whether there is one."""
    shown: dict[str, Any] = {"id": camera.id, "name": camera.name, "kind": camera.kind, "enabled": camera.enabled}
    match camera.source:
        case RtspAddress(url, username, transport, sub_url):
            is_set = credentials is not None and bool(credentials.password.reveal())
            shown |= {"url": str(url), "sub_url": None if sub_url is None else str(sub_url), "transport": transport}
            shown["username"] = username
            shown["password"] = "set" if is_set else "not set"
        case Recording(path, start_us):
            recorded_at = datetime.fromtimestamp(start_us / 1_000_000, UTC).isoformat()
            shown |= {"file": str(path), "recorded_at": recorded_at, "finished": camera.finished}
    return shown | {
        "sample_interval_ms": camera.sample_interval_ms,
        "gate": camera.gate,
        "heartbeat_s": camera.heartbeat_s,
        "motion_ttl_s": camera.motion_ttl_s,
        "pre_roll": camera.pre_roll,
        "mode": camera.mode,
        "reader": camera.reader,
        "jpeg_long_side": camera.jpeg_long_side,
        "jpeg_quality": camera.jpeg_quality,
        "blur": camera.blur,
        "masks": len(camera.masks),
        "zones": [zone.name for zone in camera.zones],
        "grid": None if camera.grid_row is None else [camera.grid_row, camera.grid_column],
    }


def print_camera(shown: dict[str, Any]) -> None:
    """One camera, a field a line."""
    for key, value in shown.items():
        text = {True: "yes", False: "no", None: "none"}.get(value, value) if isinstance(value, bool | None) else value
        text = ", ".join(map(str, value)) or "none" if isinstance(value, list) else text
        click.echo(f"{key + ':':<20}{text}")


def print_table(cameras: Sequence[Camera]) -> None:
    """All cameras, one a line."""
    if not cameras:
        click.echo("no cameras yet; add one with: crow-daemon camera add ID --url rtsp://…")
    for camera in cameras:
        where = str(camera.source.url) if isinstance(camera.source, RtspAddress) else str(camera.source.path)
        state = "" if camera.enabled else " (disabled)"
        every = f"every {camera.sample_interval_ms / 1000:g} s"
        click.echo(f"{camera.id:<20} {every:<14} gate {camera.gate:<9} {where}{state}  {camera.name}")


def checkup_json(checkup: "Checkup") -> dict[str, Any]:
    """What was found, without the picture."""
    error = checkup.error
    checks = [
        {"topic": one.topic, "verdict": one.verdict, "says": one.says, "remedy": one.remedy} for one in checkup.checks
    ]
    failure = {"code": error.code, "message": error.message} if error else {}
    return {"ok": checkup.ok, **failure, **checkup.facts, "checks": checks}


def print_checkup(checkup: "Checkup") -> None:
    """A line for each thing that was looked at, with what to do below it."""
    for one in checkup.checks:
        click.echo(f"{one.verdict:<10} {one.topic:<10} {one.says}".rstrip())
        if one.remedy:
            click.echo(f"{'':<21} → {one.remedy}")
