"""What several commands are told in the same way: a camera, a moment."""

from datetime import UTC, datetime
from typing import Any

import click

from crow_shared.errors import CrowError
from crow_shared.identity import CameraKey, checked_id


class CameraArgument(click.ParamType[CameraKey]):
    """ORGANIZATION/SITE/CAMERA."""

    name = "ORG/SITE/CAMERA"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> CameraKey:
        """The key that `value` names."""
        if isinstance(value, CameraKey):
            return value
        parts = str(value).split("/")
        if len(parts) != 3:
            self.fail(f"{value!r} is no camera; example: acme/shop1/till", param, ctx)
        try:
            return CameraKey(*(checked_id(part, "id") for part in parts))
        except CrowError as error:
            self.fail(error.message, param, ctx)


class MomentArgument(click.ParamType[int]):
    """A moment as ISO 8601 with its zone; in µs since the Unix epoch."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The moment that `value` names."""
        if isinstance(value, int):
            return value
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self.fail(f"{value!r} is no time with a zone; example: 2026-11-22T09:00:00+01:00", param, ctx)
        return round(moment.timestamp() * 1_000_000)


def iso(time_us: int) -> str:
    """A moment for people, in UTC."""
    return datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(timespec="milliseconds")
