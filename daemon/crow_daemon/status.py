"""What the running daemon says of itself, for `crow-daemon status`: a small JSON file, renewed every two seconds."""

import json
import os
from pathlib import Path
from typing import Any

from crow_shared.errors import CrowError, Kind

FILE_NAME = "status.json"
STALE_S = 10.0


def write(state_dir: Path, status: dict[str, Any]) -> None:
    """Replaces the file in one step, so that a reader sees a whole one. Raises OSError when the disk refuses."""
    path = state_dir / FILE_NAME
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(status), encoding="utf-8")  # indented, it costs five times as much
    fresh.replace(path)


def read(state_dir: Path, now_us: int) -> dict[str, Any]:
    """The latest status, with `running` telling whether it is still being renewed.

    `silent` tells whether it is not although the process lives.

    Raises CrowError(UNAVAILABLE) where no daemon has run yet.
    """
    path = state_dir / FILE_NAME
    try:
        status: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CrowError(
            Kind.UNAVAILABLE, "no_status", f"no daemon has run with the state directory {state_dir}"
        ) from None
    except (OSError, ValueError) as error:
        raise CrowError(Kind.UNAVAILABLE, "status_unreadable", f"cannot read {path}: {error}") from None
    age_s = (now_us - int(status["written_us"])) / 1_000_000
    status["age_s"] = round(age_s, 1)
    alive = _alive(int(status["pid"]))
    status["running"] = alive and age_s < STALE_S
    status["silent"] = alive and not status["running"]
    return status


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
