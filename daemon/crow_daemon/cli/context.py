"""What `ctx.obj` offers to the commands; the group above them puts it there."""

from typing import Protocol

from crow_daemon.registry.registry import Registry
from crow_daemon.settings import DaemonSettings


class CameraContext(Protocol):
    """For commands that need the cameras alone."""

    def registry(self) -> Registry:
        """The registry, opened. Raises CrowError when that fails."""
        ...


class DaemonContext(CameraContext, Protocol):
    """For commands that need the daemon's settings as well."""

    @property
    def settings(self) -> DaemonSettings:
        """The settings. Raises CrowError when they are wrong."""
        ...
