"""Which engine describes frames, and the sentence that says why."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from crow_receiver.models.store import InstalledModel, ModelStore
from crow_receiver.settings import VisionSettings
from crow_receiver.vision.llama.options import LlamaSettings
from crow_receiver.vision.worker_protocol import WorkerConfig
from crow_shared.errors import CrowError, Kind

_CLASSIC = "describing frames by motion analysis (classic)"
_INSTALL_LLAMA = "install crow-receiver with its extra `llama`"
_PULL = "`crow-receiver model pull gemma-3-4b-it` installs them"


@dataclass(frozen=True, slots=True)
class Choice:
    """What the workers shall run; `reason` is a sentence for the log and for people."""

    worker: WorkerConfig
    reason: str

    @property
    def engine(self) -> str:
        """The engine's name."""
        return self.worker.engine


def choose_engine(settings: VisionSettings, models_dir: Path) -> Choice:
    """The engine as the settings want it, as far as it can be had.

    `auto` takes llama where both the library and weights are installed, else classic. Raises CrowError: NOT_FOUND when
    an engine or a model that the settings name is missing, CORRUPT for a manifest that cannot be read.
    """
    classic = WorkerConfig(engine="classic")
    if settings.engine == "classic":
        return Choice(classic, f"The settings ask for classic: {_CLASSIC}.")
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
    if settings.engine == "llama":
        raise CrowError(Kind.NOT_FOUND, "engine_missing", f"vision.engine is llama, but: {why}")
    return Choice(classic, f"{why}: {_CLASSIC}.")


def _llama(settings: VisionSettings, model: InstalledModel) -> WorkerConfig:
    return WorkerConfig(
        engine="llama",
        model=model.name,
        model_path=str(model.model_path),
        model_sha256=model.manifest.model.sha256,
        mmproj_path=str(model.mmproj_path),
        mmproj_sha256=model.manifest.mmproj.sha256,
        llama=llama_settings(settings),
    )


def llama_settings(settings: VisionSettings) -> LlamaSettings:
    """What the settings say about how llama.cpp runs."""
    return LlamaSettings(**{name: getattr(settings, name) for name in LlamaSettings.model_fields})
