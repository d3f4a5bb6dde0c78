"""The daemon's settings. Cameras are not here: they live in the registry (`crow-daemon camera`)."""

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from crow_daemon.detect.config import DetectorConfig, Provider
from crow_daemon.spool.limits import DropPolicy, SpoolLimits
from crow_shared import settings
from crow_shared.address import Address, is_loopback
from crow_shared.identity import valid_id
from crow_shared.settings import Environment, LogLevel, Section

ENVIRONMENT_PREFIX = "CROW_DAEMON_"
ALIASES = {"ENVIRONMENT": ("environment",)}


class SpoolSettings(Section):
    """Frames on disk until the receiver has them."""

    max_bytes: int = Field(default=4 << 30, ge=16 << 20, description="bound in bytes")
    max_age_h: float = Field(default=168, ge=0, description="frames that waited for longer go; 0: they never do")
    min_free_bytes: int = Field(default=256 << 20, ge=0, description="room in bytes that is left on the disk")
    drop: DropPolicy = Field(
        default=DropPolicy.OLDEST,
        description="what goes when there is no room: oldest, or newest (what comes is not taken)",
    )

    @property
    def limits(self) -> SpoolLimits:
        """The same for the spool."""
        return SpoolLimits(self.max_bytes, self.max_age_h * 3600, self.min_free_bytes, self.drop)


class CaptureSettings(Section):
    """The processes in which cameras are read."""

    cameras_per_worker: int = Field(
        default=8,
        ge=1,
        le=64,
        description="share one process; four times as many of those whose keyframes are passed on without libav",
    )
    worker_memory_mb: int = Field(default=1024, ge=256, le=65536, description="a process that takes more is replaced")


class UplinkOrder(StrEnum):
    """What is sent first after the link was away."""

    LIVE_FIRST = "live_first"
    IN_ORDER = "in_order"


class UplinkSettings(Section):
    """The way to the receiver."""

    receiver: Address = Field(default="127.0.0.1:7443", description="host:port of the receiver's gRPC")
    tls: bool = Field(default=False, description="encrypt; needed in prod unless the receiver is on this machine")
    ca_file: str = Field(default="", description="PEM file of the receiver's CA; empty: the system's")
    order: UplinkOrder = Field(
        default=UplinkOrder.LIVE_FIRST,
        description="live_first: what is seen now before what waited while the link was away; in_order: oldest first",
    )

    @property
    def is_local(self) -> bool:
        """Whether the receiver is on this machine."""
        return is_loopback(self.receiver)


class DetectorSettings(Section):
    """The person detector, for cameras with `--gate person` or `--blur people`."""

    model: str = Field(default="", description="ONNX file, YOLOX or RT-DETR style; empty: none")
    sha256: str = Field(default="", pattern="^([0-9a-fA-F]{64})?$", description="of the file; empty: not checked")
    provider: Provider = Field(
        default=Provider.AUTO, description="auto, cpu, cuda or tensorrt; where one is not to be had, the next one"
    )
    confidence: float = Field(default=0.4, gt=0, lt=1, description="from which on somebody counts as seen")

    @property
    def config(self) -> DetectorConfig | None:
        """The same for those who load it; None without a detector."""
        return DetectorConfig(self.model, self.sha256, self.provider, self.confidence) if self.model else None


class DaemonSettings(Section):
    """Everything that the daemon can be told."""

    environment: Environment = Field(default=Environment.LOCAL, description="local, dev or prod")
    organization_id: str = Field(default="local", description="the tenant")
    site_id: str = Field(default="shop", description="the shop that this box is in")
    daemon_id: str = Field(default="daemon", description="this box; unique within the site")
    state_dir: str = Field(default="/var/lib/crow-daemon", description="registry, spool and status")
    log_level: LogLevel = Field(default="info", description="debug, info, warning or error")
    stop_deadline_s: float = Field(default=20, gt=0, le=300, description="an orderly stop takes at most so long")
    capture: CaptureSettings = CaptureSettings()
    spool: SpoolSettings = SpoolSettings()
    uplink: UplinkSettings = UplinkSettings()
    detector: DetectorSettings = DetectorSettings()

    @field_validator("organization_id", "site_id", "daemon_id")
    @classmethod
    def _is_id(cls, value: str) -> str:
        return valid_id(value)

    @model_validator(mode="after")
    def _prod_is_safe(self) -> Self:
        if self.environment is Environment.PROD:
            if not self.uplink.tls and not self.uplink.is_local:
                raise ValueError("uplink.tls: prod does not send pictures unencrypted; set it to true")
            if self.organization_id == "local":
                raise ValueError("organization_id: prod needs the tenant's own id")
        return self

    @property
    def state_path(self) -> Path:
        """Where registry, spool and status lie."""
        return Path(self.state_dir)


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> DaemonSettings:
    """The settings of `path` and the environment. Raises CrowError as `crow_shared.settings.load` does."""
    return settings.load(DaemonSettings, path, environ, prefix=ENVIRONMENT_PREFIX, aliases=ALIASES)
