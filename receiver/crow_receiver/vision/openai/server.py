"""One server, spoken to: a question asked, its health asked after, and every failure sorted by whose fault it is.

A request follows no redirect, takes no proxy and no login from the environment, waits no longer than its time-out for
the whole answer, and reads no more than `MAX_ANSWER_BYTES` of it.
"""

import asyncio
import email.utils
import json
import ssl
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any

import httpx
from pydantic import BaseModel, ValidationError

from crow_receiver.vision.openai.options import Endpoint
from crow_shared.errors import CrowError, Kind

MAX_ANSWER_BYTES = 256 << 10
CONNECT_TIMEOUT_S = 5.0
CHECK_TIMEOUT_S = 10.0
MOST_RETRY_AFTER_S = 300.0
_MOST_SAID_CHARS = 200
_NOT_NOW = frozenset({408, 425, 429})
_NOT_THERE = frozenset({401, 403, 404, 405, 502, 503, 504})


class Fault(Enum):
    """Whose fault it is that there is no answer."""

    SERVER = "server"  # it cannot be reached, or serves nobody: not this frame's fault
    BUSY = "busy"  # it wants to be left alone for a while
    UNCLEAR = "unclear"  # it failed at this frame; the frame may be why


class ServerFailure(Exception):  # noqa: N818 — it is no error of ours
    """Why a server gave no answer; `retry_after_s` where it says when to come again."""

    def __init__(self, fault: Fault, why: str, retry_after_s: float | None = None) -> None:
        super().__init__(why)
        self.fault = fault
        self.why = why
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said, and how many tokens that took; `complete` is False where it was cut off."""

    text: str
    complete: bool
    prompt_tokens: int
    answer_tokens: int


class _Message(BaseModel):
    content: str


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Tokens(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(BaseModel):
    choices: list[_Choice]
    usage: _Tokens | None = None


class Server:
    """A connection to one server."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Raises CrowError(INVALID) "openai_endpoint" for a file of authorities that cannot be used."""
        self.endpoint = endpoint
        self._key = endpoint.api_key.get_secret_value()
        headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._client = httpx.AsyncClient(
            base_url=endpoint.url,
            headers=headers,
            verify=_trusting(endpoint),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),  # the whole exchange has one of ours
            limits=httpx.Limits(max_connections=endpoint.max_in_flight + 1, keepalive_expiry=30),
        )

    @property
    def name(self) -> str:
        """For people: its address."""
        return self.endpoint.url

    async def ask(self, question: dict[str, Any], seed: int) -> Reply:
        """Raises ServerFailure."""
        body = json.dumps(question | {"model": self.endpoint.model, "seed": seed}).encode()
        text = await self._exchange("POST", "chat/completions", body, self.endpoint.timeout_s)
        try:
            completion = _Completion.model_validate_json(text)
            choice = completion.choices[0]
        except (ValidationError, IndexError):
            raise ServerFailure(Fault.UNCLEAR, f"{self.name} answered with what is no chat completion") from None
        tokens = completion.usage or _Tokens()
        return Reply(
            choice.message.content, choice.finish_reason != "length", tokens.prompt_tokens, tokens.completion_tokens
        )

    async def check(self) -> None:
        """Asks for its models, to see whether it is there. Raises ServerFailure."""
        await self._exchange("GET", "models", None, CHECK_TIMEOUT_S)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def _exchange(self, method: str, path: str, body: bytes | None, timeout_s: float) -> bytes:
        try:
            async with asyncio.timeout(timeout_s), self._client.stream(method, path, content=body) as response:
                text = await self._read(response)
                self._check_status(response, text)
                return text
        except TimeoutError:
            raise ServerFailure(Fault.UNCLEAR, f"{self.name} did not answer within {timeout_s:g} s") from None
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            why = f"{self.name} cannot be reached: {error or type(error).__name__}"
            raise ServerFailure(Fault.SERVER, why) from None
        except httpx.HTTPError as error:
            why = f"{self.name} broke off: {self._shown(str(error)) or type(error).__name__}"
            raise ServerFailure(Fault.UNCLEAR, why) from None

    async def _read(self, response: httpx.Response) -> bytes:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise ServerFailure(Fault.UNCLEAR, f"{self.name} answered in a coding that was not asked for")
        text = bytearray()
        async for chunk in response.aiter_raw():
            text += chunk
            if len(text) > MAX_ANSWER_BYTES:
                raise ServerFailure(Fault.UNCLEAR, f"{self.name} answered with more than {MAX_ANSWER_BYTES} bytes")
        return bytes(text)

    def _check_status(self, response: httpx.Response, text: bytes) -> None:
        status = response.status_code
        if status == httpx.codes.OK:
            return
        why = f"{self.name} answered {status} {self._shown(response.reason_phrase)}".rstrip()
        if response.is_redirect:
            raise ServerFailure(Fault.SERVER, f"{why}, a redirect, which is not followed")
        if said := self._shown(text.decode("utf-8", "replace")):
            why += f": {said}"
        retry_after_s = _retry_after_s(response.headers.get("Retry-After"))
        if status in _NOT_NOW:
            raise ServerFailure(Fault.BUSY, why, retry_after_s)
        raise ServerFailure(Fault.SERVER if status in _NOT_THERE else Fault.UNCLEAR, why, retry_after_s)

    def _shown(self, said: str) -> str:
        """The beginning of what a server says, for people: without the key, which some repeat."""
        if self._key:
            said = said.replace(self._key, "***")
        return "".join(character if character.isprintable() else " " for character in said[:_MOST_SAID_CHARS]).strip()


def _retry_after_s(header: str | None) -> float | None:
    """Seconds, from seconds or a date (RFC 9110, 10.2.3); None for what is neither."""
    if header is None:
        return None
    try:
        wait_s = float(header) if header.strip().isdigit() else _until_s(header)
    except (ValueError, TypeError):
        return None
    return min(max(wait_s, 0.0), MOST_RETRY_AFTER_S)


def _until_s(date: str) -> float:
    return email.utils.parsedate_to_datetime(date).timestamp() - time.time()


def _trusting(endpoint: Endpoint) -> ssl.SSLContext | bool:
    if not endpoint.ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=endpoint.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise CrowError(
            Kind.INVALID, "openai_endpoint", f"ca_file {endpoint.ca_file} cannot be used: {error}"
        ) from None
