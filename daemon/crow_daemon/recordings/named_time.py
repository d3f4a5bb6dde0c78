"""The time in the name of a recording, as cameras and recorders write it. Pure."""

import re
from datetime import UTC, datetime, tzinfo

_DATE = r"(?<!\d)(20\d\d)[-_.]?([01]\d)[-_.]?([0-3]\d)"
_TIME = r"([0-2]\d)[-_.:h]?([0-5]\d)[-_.:m]?([0-5]\d)"
_NAMED = re.compile(rf"{_DATE}[T _-]*{_TIME}(?:[.]?\d{{3}})?(?!\d)(Z?)")


def named_time(name: str, zone: tzinfo | None = None) -> datetime | None:
    """The first date with a time in a file's name, as in `ch01_20261122090000.mp4` or `2026-11-22 09-00-00.mkv`.

    A time without a Z behind it is one of `zone`, by default this machine's. None where there is none.
    """
    for match in _NAMED.finditer(name):
        *numbers, utc = match.groups()
        year, month, day, hour, minute, second = (int(number) for number in numbers)
        try:
            local = datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 — its zone is put in below
        except ValueError:
            continue
        if utc:
            return local.replace(tzinfo=UTC)
        return local.astimezone() if zone is None else local.replace(tzinfo=zone)
    return None
