"""Which servers describe frames, and how they are asked."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_serializer

from crow_shared.address import is_loopback


def _server_url(url: str) -> str:
    """Returns `url` without its last slash when it is one. Raises ValueError, as pydantic wants it, when it is not."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("this is no http:// or https:// address")
    if parts.username is not None or parts.password is not None:
        raise ValueError("an address holds no login")
    if parts.query or parts.fragment:
        raise ValueError("an address ends with its path")
    _ = parts.port  # raises ValueError for one that is none
    return url.rstrip("/")


ServerUrl = Annotated[str, AfterValidator(_server_url)]


def is_exposed(url: str) -> bool:
    """Whether what is sent there goes unencrypted to another machine."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(f"{parts.hostname}:80")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Endpoint(_Strict):
    """One server: `url` up to and with /v1, `model` by the server's name for it.

    `timeout_s` is for one answer, `ca_file` a PEM file of authorities to trust in place of the public ones.
    """

    url: ServerUrl
    model: str
    api_key: SecretStr = SecretStr("")
    max_in_flight: Annotated[int, Field(ge=1)] = 8
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    ca_file: str = ""

    @field_serializer("api_key", when_used="json")
    def _key_for_the_worker(self, key: SecretStr) -> str:
        """JSON of this goes through the worker's pipe and nowhere else."""
        return key.get_secret_value()


class OpenAiOptions(_Strict):
    """`give_up_s` is for all tries at one frame, `long_side` the pictures' longer side in pixels, at most."""

    endpoints: tuple[Endpoint, ...] = ()
    max_tokens: Annotated[int, Field(ge=1)] = 1024
    long_side: Annotated[int, Field(ge=64)] = 896
    give_up_s: Annotated[float, Field(gt=0)] = 270.0
