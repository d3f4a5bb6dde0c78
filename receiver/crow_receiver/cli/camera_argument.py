"""A camera, as several commands are told of it."""

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
