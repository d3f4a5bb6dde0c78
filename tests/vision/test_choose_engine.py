"""Which engine runs, and what people are told about it."""

from pathlib import Path

import pytest

from crow_receiver.models.store import ModelStore
from crow_receiver.settings import ReceiverSettings, VisionSettings, load
from crow_receiver.vision import choose
from crow_receiver.vision.choose import Choice, choose_engines
from crow_receiver.vision.worker.protocol import packed
from crow_shared.errors import CrowError, Kind


@pytest.fixture
def installed(small_gemma: tuple[Path, Path], tmp_path: Path) -> Path:
    ModelStore(tmp_path).add("small", *small_gemma)
    return tmp_path


@pytest.fixture
def without_llama(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "find_spec", lambda _: None)


@pytest.fixture
def with_llama(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "find_spec", lambda _: object())


def choose_engine(settings: VisionSettings, models: Path) -> Choice:
    (choice,) = choose_engines(settings, models, {})
    return choice


@pytest.mark.usefixtures("with_llama")
def test_without_weights_motion_analysis_runs_and_the_reason_says_how_to_get_them(tmp_path: Path) -> None:
    choice = choose_engine(VisionSettings(), tmp_path)
    assert choice.engine == "classic"
    assert str(tmp_path) in choice.reason
    assert "crow-receiver model pull gemma-3-4b-it" in choice.reason


@pytest.mark.usefixtures("with_llama")
def test_with_weights_and_the_library_gemma_runs(installed: Path) -> None:
    choice = choose_engine(VisionSettings(threads=3, gpu_layers=0), installed)
    assert (choice.engine, choice.worker.model) == ("llama", "small")
    assert (choice.worker.llama.threads, choice.worker.llama.gpu_layers) == (3, 0)
    assert Path(choice.worker.model_path).is_file()
    assert Path(choice.worker.mmproj_path).is_file()
    assert len(choice.worker.model_sha256) == len(choice.worker.mmproj_sha256) == 64


@pytest.mark.usefixtures("without_llama")
def test_weights_without_the_library_leave_motion_analysis_and_the_reason_says_so(installed: Path) -> None:
    choice = choose_engine(VisionSettings(), installed)
    assert choice.engine == "classic"
    assert "llama-cpp-python is not installed" in choice.reason


@pytest.mark.usefixtures("with_llama")
def test_settings_that_ask_for_motion_analysis_get_it(installed: Path) -> None:
    assert choose_engine(VisionSettings(engine=("classic",)), installed).engine == "classic"


@pytest.mark.usefixtures("with_llama")
def test_settings_that_ask_for_llama_do_not_silently_get_less(tmp_path: Path) -> None:
    with pytest.raises(CrowError) as caught:
        choose_engine(VisionSettings(engine=("llama",)), tmp_path)
    assert (caught.value.kind, caught.value.code) == (Kind.NOT_FOUND, "engine_missing")


@pytest.mark.usefixtures("with_llama")
def test_a_model_that_the_settings_name_has_to_be_there(installed: Path) -> None:
    with pytest.raises(CrowError, match="gemma-3-4b-it") as caught:
        choose_engine(VisionSettings(model="gemma-3-4b-it"), installed)
    assert caught.value.kind is Kind.NOT_FOUND


def with_endpoint(**said: object) -> VisionSettings:
    endpoint = {"url": "https://gpu:8000/v1/", "model": "gemma", **said}
    return VisionSettings.model_validate({"engine": "openai", "openai": {"endpoints": [endpoint]}, "deadline_s": 100})


@pytest.mark.usefixtures("with_llama")
def test_several_engines_are_taken_in_the_order_in_which_they_are_named(installed: Path) -> None:
    endpoints = {"endpoints": [{"url": "http://127.0.0.1:8000/v1", "model": "gemma"}]}
    settings = VisionSettings.model_validate({"engine": "openai, auto ,classic", "openai": endpoints})
    assert [choice.engine for choice in choose_engines(settings, installed, {})] == ["openai", "llama", "classic"]


@pytest.mark.usefixtures("without_llama")
def test_an_engine_that_auto_comes_to_is_not_run_twice(installed: Path) -> None:
    settings = VisionSettings.model_validate({"engine": ["auto", "classic"]})
    assert [choice.engine for choice in choose_engines(settings, installed, {})] == ["classic"]


def test_what_the_settings_say_of_a_server_reaches_the_worker_with_its_key(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-4711\n")
    (from_file,) = choose_engines(with_endpoint(api_key_file=str(key), timeout_s=7), tmp_path, {})
    (from_variable,) = choose_engines(with_endpoint(api_key_env="GPU_KEY"), tmp_path, {"GPU_KEY": "sk-4712"})
    (endpoint,) = from_file.worker.openai.endpoints
    assert (endpoint.url, endpoint.model, endpoint.timeout_s) == ("https://gpu:8000/v1", "gemma", 7)
    assert endpoint.api_key.get_secret_value() == "sk-4711"
    assert from_variable.worker.openai.endpoints[0].api_key.get_secret_value() == "sk-4712"
    assert from_file.worker.openai.give_up_s == 90, "before the frame's deadline, so that the reason is the server's"
    assert "sk-471" not in f"{from_file} {from_file.worker!r} {from_variable.reason}"
    assert b"sk-4711" in packed(from_file.worker), "the pipe to the worker is the one way on which it is told"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"api_key_env": "GPU_KEY"}, Kind.NOT_FOUND),
        ({"api_key_file": "/nowhere/key"}, Kind.NOT_FOUND),
        ({"api_key_file": "/dev/null"}, Kind.NOT_FOUND),
        ({"api_key_env": "SPLIT_KEY"}, Kind.INVALID),
    ],
    ids=str,
)
def test_a_key_that_is_not_where_the_settings_say_is_an_error_that_names_the_place(
    said: dict[str, str], kind: Kind, tmp_path: Path
) -> None:
    with pytest.raises(CrowError) as caught:
        choose_engines(with_endpoint(**said), tmp_path, {"SPLIT_KEY": "sk-1\r\nX-Evil: sk-2"})
    assert caught.value.kind is kind
    assert next(iter(said.values())) in caught.value.message
    assert "sk-" not in caught.value.message


def loaded(tmp_path: Path, text: str) -> ReceiverSettings:
    path = tmp_path / "receiver.toml"
    path.write_text(text)
    return load(path, {})


ENDPOINT = "[[vision.openai.endpoints]]\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('vision.engine = "openai"', "there is no [[vision.openai.endpoints]]"),
        ("vision.engine = []", "at least one engine"),
        ('vision.engine = "llama,llama"', "each once"),
        ('vision.engine = "gemma"', "Input should be 'auto', 'llama', 'openai' or 'classic'"),
        (ENDPOINT + 'url = "ftp://gpu/v1"\nmodel = "m"', "no http:// or https:// address"),
        (ENDPOINT + 'url = "http://me:secret@gpu/v1"\nmodel = "m"', "holds no login"),
        (ENDPOINT + 'url = "http://gpu/v1?key=1"\nmodel = "m"', "ends with its path"),
        (ENDPOINT + 'url = "http://gpu/v1"', "vision.openai.endpoints.0.model: Field required"),
        (ENDPOINT + 'url = "http://gpu/v1"\nmodle = "m"', "did you mean vision.openai.endpoints.0.model?"),
        (ENDPOINT + 'url = "http://gpu"\nmodel = "m"\napi_key_env = "A"\napi_key_file = "/b"', "exclude each other"),
        (ENDPOINT + 'url = "http://gpu"\nmodel = "m"\napi_key_env = "sk-secret"', "api_key_env: String should match"),
        (ENDPOINT + 'url = "http://gpu"\nmodel = "m"\napi_key_file = "sk-secret"', "api_key_file: String should match"),
    ],
    ids=range(12),
)
def test_settings_that_make_no_sense_are_refused_in_words(text: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(CrowError) as caught:
        loaded(tmp_path, text)
    assert fault in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("url", "is_fine"),
    [("http://gpu:8000/v1", False), ("https://gpu:8000/v1", True), ("http://127.0.0.1:1/v1", True)],
)
def test_prod_sends_no_pictures_unencrypted_to_other_machines(url: str, *, is_fine: bool, tmp_path: Path) -> None:
    key = "x" * 32
    text = f'environment = "prod"\ngateway.internal_key = "{key}"\n{ENDPOINT}url = "{url}"\nmodel = "m"\n'
    if is_fine:
        assert loaded(tmp_path, text)
    else:
        with pytest.raises(CrowError, match="prod sends no pictures unencrypted to http://gpu:8000/v1"):
            loaded(tmp_path, text)
