"""Which engines describe frames, and the sentences that say why."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pydantic import SecretStr

from crow_receiver.models.store import InstalledModel, ModelStore
from crow_receiver.settings import EngineName, OpenAiEndpointSettings, VisionSettings
from crow_receiver.vision.llama.options import LlamaSettings
from crow_receiver.vision.openai.options import Endpoint, OpenAiOptions
from crow_receiver.vision.prompt import load_prompt
from crow_receiver.vision.worker.protocol import WorkerConfig
from crow_shared.errors import CrowError, Kind

_CLASSIC = "describing frames by motion analysis (classic)"
_INSTALL_LLAMA = "install crow-receiver with its extra `llama`"
_PULL = "`crow-receiver model pull gemma-3-4b-it` installs them"
_SHARE_OF_DEADLINE = 0.9  # for all tries with servers, so that the reason is theirs and not the frame's deadline


@dataclass(frozen=True, slots=True)
class Choice:
    """What the workers of one engine shall run; `reason` is a sentence for the log and for people."""

    worker: WorkerConfig
    reason: str

    @property
    def engine(self) -> str:
        """The engine's name."""
        return self.worker.engine


def choose_engines(
    settings: VisionSettings, models_dir: Path, environ: Mapping[str, str] = os.environ
) -> tuple[Choice, ...]:
    """The engines as the settings want them, in their order, as far as they can be had.

    `auto` takes llama where both the library and weights are installed, else classic. Raises CrowError: NOT_FOUND when
    an engine, a model, a key or a prompt that the settings name is missing, CORRUPT for a manifest that cannot be read,
    INVALID for a key or a prompt that is none.
    """
    choices: dict[str, Choice] = {}
    for name in settings.engine:
        choice = _choice(name, settings, models_dir, environ)
        choices.setdefault(choice.engine, choice)
    return tuple(choices.values())


def tells_previous(settings: VisionSettings, choices: Iterable[Choice]) -> bool:
    """Whether engines hear what was said of the frame before; classic asks nothing."""
    return settings.previous == "description" and any(choice.engine != "classic" for choice in choices)


def _choice(name: EngineName, settings: VisionSettings, models_dir: Path, environ: Mapping[str, str]) -> Choice:
    if name == "classic":
        return Choice(WorkerConfig(engine="classic"), f"The settings ask for classic: {_CLASSIC}.")
    if name == "openai":
        return _openai(settings, environ)
    return _llama_or_classic(name, settings, models_dir)


def _llama_or_classic(name: EngineName, settings: VisionSettings, models_dir: Path) -> Choice:
    store = ModelStore(models_dir)
    model = store.find("auto") if settings.model == "auto" else store.get(settings.model)
    missing = []
    if model is None:
        missing.append(f"No Gemma weights under {models_dir} ({_PULL})")
    if find_spec("llama_cpp") is None:
        missing.append(f"llama-cpp-python is not installed ({_INSTALL_LLAMA})")
    if model is not None and not missing:
        return Choice(_llama(settings, model), f"Describing frames with {model.name} from {model.directory}.")
    why = "; ".join(missing)
    if name == "llama":
        raise CrowError(Kind.NOT_FOUND, "engine_missing", f"vision.engine names llama, but: {why}")
    return Choice(WorkerConfig(engine="classic"), f"{why}: {_CLASSIC}.")


def _openai(settings: VisionSettings, environ: Mapping[str, str]) -> Choice:
    endpoints = tuple(
        Endpoint(
            url=endpoint.url,
            model=endpoint.model,
            api_key=_api_key(endpoint, environ),
            max_in_flight=endpoint.max_in_flight,
            timeout_s=endpoint.timeout_s,
            ca_file=endpoint.ca_file,
        )
        for endpoint in settings.openai.endpoints
    )
    options = OpenAiOptions(
        endpoints=endpoints,
        max_tokens=settings.openai.max_tokens,
        long_side=settings.openai.long_side,
        give_up_s=settings.deadline_s * _SHARE_OF_DEADLINE,
    )
    servers = ", ".join(f"{endpoint.model} at {endpoint.url}" for endpoint in endpoints)
    return Choice(
        WorkerConfig(engine="openai", openai=options, prompt=load_prompt(settings.prompt)),
        f"Having frames described by {servers}.",
    )


def _api_key(endpoint: OpenAiEndpointSettings, environ: Mapping[str, str]) -> SecretStr:
    """Raises CrowError that says where the key was looked for, and nothing of what was found."""
    if endpoint.api_key_file:
        place = endpoint.api_key_file
        try:
            key = Path(place).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise CrowError(Kind.NOT_FOUND, "api_key", f"cannot read the key in {place}: {why}") from None
    elif endpoint.api_key_env:
        place = f"environment variable {endpoint.api_key_env}"
        key = environ.get(endpoint.api_key_env, "").strip()
    else:
        return SecretStr("")
    if not key:
        raise CrowError(Kind.NOT_FOUND, "api_key", f"there is no key in {place}")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise CrowError(Kind.INVALID, "api_key", f"what is in {place} is no key")
    return SecretStr(key)


def _llama(settings: VisionSettings, model: InstalledModel) -> WorkerConfig:
    return WorkerConfig(
        engine="llama",
        model=model.name,
        model_path=str(model.model_path),
        model_sha256=model.manifest.model.sha256,
        mmproj_path=str(model.mmproj_path),
        mmproj_sha256=model.manifest.mmproj.sha256,
        llama=llama_settings(settings),
        prompt=load_prompt(settings.prompt),
    )


def llama_settings(settings: VisionSettings) -> LlamaSettings:
    """What the settings say about how llama.cpp runs."""
    return LlamaSettings(**{name: getattr(settings, name) for name in LlamaSettings.model_fields})
