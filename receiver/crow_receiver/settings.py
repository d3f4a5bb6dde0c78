"""The receiver's settings."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator

from crow_receiver.vision.llama.options import MOST_SLOTS, FlashAttention, KeyValueType
from crow_receiver.vision.openai.options import ServerUrl, is_exposed
from crow_shared import settings
from crow_shared.address import Address, is_loopback
from crow_shared.errors import CrowError, Kind
from crow_shared.settings import Environment, LogLevel, Section

ENVIRONMENT_PREFIX = "CROW_RECEIVER_"
ALIASES = {
    "ENVIRONMENT": ("environment",),
    "API_GATEWAY_URL": ("gateway", "url"),
    "INTERNAL_GATEWAY_KEY": ("gateway", "internal_key"),
}
LEAST_KEY_CHARS = 32

EngineName = Literal["auto", "llama", "openai", "classic"]


def _listed(engines: object) -> object:
    """One name, or several with commas between them as environment variables have them, as a list."""
    return [name.strip() for name in engines.split(",")] if isinstance(engines, str) else engines


def _each_once(engines: tuple[EngineName, ...]) -> tuple[EngineName, ...]:
    if not engines or len(set(engines)) < len(engines):
        raise ValueError("name at least one engine, and each once")
    return engines


EngineOrder = Annotated[tuple[EngineName, ...], BeforeValidator(_listed), AfterValidator(_each_once)]


class GrpcSettings(Section):
    """Where daemons deliver frames."""

    listen: Address = Field(default="127.0.0.1:7443", description="address:port; port 0 takes a free one")
    window_frames: int = Field(default=64, ge=1, le=1024, description="unacknowledged frames of one daemon, at most")
    tls_certificate: str = Field(default="", description="PEM file; needed in prod unless listening on loopback only")
    tls_key: str = Field(default="", description="PEM file")


class RestSettings(Section):
    """The HTTP routes under /api/v1/cctv."""

    listen: Address = Field(default="127.0.0.1:8015", description="address:port; port 0 takes a free one")


class GatewaySettings(Section):
    """The API gateway in front of the HTTP routes."""

    url: str = Field(default="", description="its public address, for the OpenAPI document; API_GATEWAY_URL")
    internal_key: SecretStr = Field(
        default=SecretStr(""), description="shared secret; better INTERNAL_GATEWAY_KEY; empty: routes answer 503"
    )


class SessionSettings(Section):
    """One hour of continuous footage of one camera."""

    gap_s: float = Field(default=300, ge=1, le=3600, description="a longer silence ends a session")


class OpenAiEndpointSettings(Section):
    """A server with the OpenAI API; one such table for each."""

    url: ServerUrl = Field(description="up to and with /v1")
    model: str = Field(min_length=1, max_length=255, description="the server's name for it")
    # Errors name either place, so a key that somebody puts in its stead has to be refused before it is named.
    api_key_file: str = Field(default="", pattern="^$|/", description="a path: the file holds its key and nothing else")
    api_key_env: str = Field(default="", pattern="^[A-Z_a-z0-9]*$", description="or the environment variable that does")
    max_in_flight: int = Field(default=8, ge=1, le=256, description="frames at once")
    timeout_s: float = Field(default=60, gt=0, le=3600, description="an answer takes at most so long")
    ca_file: str = Field(default="", description="PEM file: whom to trust, in place of the public authorities")

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.api_key_file and self.api_key_env:
            raise ValueError("api_key_file and api_key_env exclude each other")
        return self


class OpenAiSettings(Section):
    """Servers with the OpenAI API: vLLM, llama-server, Ollama and the like."""

    max_tokens: int = Field(default=1024, ge=64, le=16_384, description="that an answer may have")
    long_side: int = Field(default=896, ge=224, le=4096, description="pixels of a picture's longer side, at most")
    endpoints: tuple[OpenAiEndpointSettings, ...] = ()


class VisionSettings(Section):
    """Who describes the frames."""

    engine: EngineOrder = Field(
        default=("auto",),
        description="llama, openai, classic, or a list in the order in which to try them; auto: llama where Gemma "
        "weights and llama-cpp-python are installed, else classic",
    )
    fallback_after_s: float = Field(
        default=30, ge=0, le=3600, description="an engine that is down for so long is passed over while it is"
    )
    model: str = Field(default="auto", description="a name of `crow-receiver model list`; auto: what is installed")
    prompt: str = Field(default="shop-3", description="what models are asked: a version of ours, or a TOML file's path")
    previous: Literal["description", "none"] = Field(
        default="description", description="what models are told of the frame before, so that they can tell movement"
    )
    duplicate_s: float = Field(
        default=60, ge=0, le=3600, description="so long an analysis also serves frames that show the same; 0: off"
    )
    models_dir: str = Field(default="", description="where model files lie; empty: models in state_dir")
    workers: int = Field(default=1, ge=1, le=64, description="worker processes; `vision.slots` frames each at a time")
    slots: int = Field(default=0, ge=0, le=MOST_SLOTS, description="frames that llama works on at once; 0: automatic")
    context_tokens: int = Field(default=0, ge=0, description="tokens for one frame, its answer included; 0: automatic")
    batch_tokens: int = Field(default=0, ge=0, le=16_384, description="tokens evaluated at once; 0: automatic")
    kv_type: KeyValueType = Field(default="f16", description="f16, or q8_0: half the memory for keys and values")
    flash_attention: FlashAttention = Field(default="auto", description="auto, on or off")
    threads: int = Field(default=0, ge=0, le=256, description="threads per worker; 0: the machine's cores")
    gpu_layers: int = Field(default=-1, ge=-1, description="layers on the GPU; -1: all, where the build has one")
    deadline_s: float = Field(default=300, gt=0, description="a frame that takes longer is given up and tried again")
    openai: OpenAiSettings = OpenAiSettings()

    @model_validator(mode="after")
    def _openai_has_servers(self) -> Self:
        if "openai" in self.engine and not self.openai.endpoints:
            raise ValueError("engine names openai, but there is no [[vision.openai.endpoints]]")
        return self

    def with_options(self, **given: str | None) -> "VisionSettings":
        """The same with those options of a command that were given. Raises CrowError(INVALID) when they do not fit."""
        wanted = {name: value for name, value in given.items() if value is not None}
        try:
            return VisionSettings.model_validate(self.model_dump() | wanted)
        except ValidationError as error:
            raise CrowError(Kind.INVALID, "option_invalid", error.errors(include_url=False)[0]["msg"]) from None


class OverloadSettings(Section):
    """What happens when analysis falls behind; 0 switches a rule off."""

    degrade_after_s: float = Field(
        default=30, ge=0, le=3600, description="a camera further behind is asked to sample at twice its interval"
    )
    longest_interval_s: float = Field(default=10, gt=0, le=3600, description="and again, up to this")
    shed_after_s: float = Field(
        default=300, ge=0, le=86_400, description="a frame of now that has waited longer is given up with the reason"
    )
    max_waiting_frames: int = Field(
        default=100_000, ge=0, description="beyond it daemons keep their frames; their backlog from half of it on"
    )


class BatchSettings(Section):
    """Analyses per message."""

    frames: int = Field(default=10, ge=1, le=100, description="a batch closes with so many analyses")
    age_s: float = Field(default=30, gt=0, le=600, description="or when its oldest analysis is so old")


class RetentionSettings(Section):
    """How long pictures and records are kept, and when to stop taking more."""

    pictures_h: float = Field(
        default=72, ge=0, le=8760, description="hours; 0: gone as soon as analysed; a camera may have its own"
    )
    records_h: float = Field(
        default=168, ge=1, le=8760, description="hours after a session closed; at least as long as its pictures"
    )
    min_free_bytes: int = Field(
        default=256 << 20, ge=0, description="with less left on the disk, daemons have to keep their frames"
    )


class ReceiverSettings(Section):
    """Everything that the receiver can be told."""

    environment: Environment = Field(default=Environment.LOCAL, description="local, dev or prod")
    state_dir: str = Field(default="/var/lib/crow-receiver", description="database, pictures, queues and models")
    log_level: LogLevel = Field(default="info", description="debug, info, warning or error")
    stop_deadline_s: float = Field(default=20, gt=0, le=300, description="an orderly stop takes at most so long")
    grpc: GrpcSettings = GrpcSettings()
    rest: RestSettings = RestSettings()
    gateway: GatewaySettings = GatewaySettings()
    session: SessionSettings = SessionSettings()
    vision: VisionSettings = VisionSettings()
    overload: OverloadSettings = OverloadSettings()
    batch: BatchSettings = BatchSettings()
    retention: RetentionSettings = RetentionSettings()

    @model_validator(mode="after")
    def _prod_is_safe(self) -> Self:
        if bool(self.grpc.tls_certificate) != bool(self.grpc.tls_key):
            raise ValueError("grpc: tls_certificate and tls_key belong together")
        if self.environment is Environment.PROD:
            if not self.grpc.tls_certificate and not is_loopback(self.grpc.listen):
                raise ValueError("grpc.tls_certificate: prod does not take pictures unencrypted from other machines")
            for endpoint in self.vision.openai.endpoints:
                if is_exposed(endpoint.url):
                    raise ValueError(f"vision.openai: prod sends no pictures unencrypted to {endpoint.url}")
            if len(self.gateway.internal_key.get_secret_value()) < LEAST_KEY_CHARS:
                raise ValueError(f"gateway.internal_key: prod needs one of at least {LEAST_KEY_CHARS} characters")
        return self

    @property
    def state_path(self) -> Path:
        """Where everything durable lies."""
        return Path(self.state_dir)

    @property
    def models_path(self) -> Path:
        """Where model files lie."""
        return Path(self.vision.models_dir) if self.vision.models_dir else self.state_path / "models"


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> ReceiverSettings:
    """The settings of `path` and the environment. Raises CrowError as `crow_shared.settings.load` does."""
    return settings.load(ReceiverSettings, path, environ, prefix=ENVIRONMENT_PREFIX, aliases=ALIASES)
