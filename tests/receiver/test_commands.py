"""What `crow-receiver` tells an operator before anything runs."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from receiver_parts import HOUR_US, SECOND_US, known_camera, put

from crow_receiver.cli.main import main
from crow_receiver.queue.embedded import EmbeddedQueue
from crow_receiver.store.engines import kept_engines
from crow_receiver.store.store import Store
from crow_receiver.vision import engine_watch
from crow_receiver.vision.engine_state import EngineState
from crow_receiver.vision.engine_watch import watch_engines
from crow_shared.clock import SystemClock


@pytest.mark.parametrize(("key", "warned"), [("", True), ("a key", False)])
def test_routes_that_would_answer_503_for_want_of_a_key_are_announced(
    key: str, warned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROW_RECEIVER_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("INTERNAL_GATEWAY_KEY", key)
    result = CliRunner().invoke(main, ["check-config"])
    assert result.exit_code == 0, result.output
    assert ("INTERNAL_GATEWAY_KEY" in result.stdout) == warned


@pytest.mark.parametrize("words", [["status"], ["queue", "depths"]])
def test_looking_makes_nothing(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a look as root made would not be readable for the service."""
    monkeypatch.setenv("CROW_RECEIVER_STATE_DIR", str(tmp_path / "state"))
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert "no receiver has run in" in result.stderr
    assert not (tmp_path / "state").exists()


async def test_status_says_how_far_each_camera_is_behind_and_late_frames_apart(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = await known_camera(store)
    now_us = SystemClock().now_us()
    for seq, (late, age_s) in enumerate(((True, 500), (False, 40), (True, 10)), 1):
        await put(store, camera, seq, HOUR_US, now_us - age_s * SECOND_US, late=late)
    store.close()
    EmbeddedQueue(tmp_path / "receiver" / "queue.db", SystemClock()).close()
    monkeypatch.setenv("CROW_RECEIVER_STATE_DIR", str(tmp_path / "receiver"))
    told = json.loads((await asyncio.to_thread(CliRunner().invoke, main, ["status", "--json"])).stdout)["cameras"][0]
    assert (told["waiting"], told["late_waiting"]) == (3, 2)
    assert 40 <= told["behind_s"] < 60
    assert 500 <= told["late_behind_s"] < 520
    said = (await asyncio.to_thread(CliRunner().invoke, main, ["status"])).stdout
    assert "analysis is 4" in said
    assert "2 late frames wait, for 50" in said


async def invoke(*words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, words)


async def test_a_camera_is_given_engines_of_its_own_and_goes_back_to_those_of_the_settings(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = await known_camera(store)
    store.close()
    monkeypatch.setenv("CROW_RECEIVER_STATE_DIR", str(tmp_path / "receiver"))
    given = await invoke("camera", "engine", "acme/shop/till", "classic,llama")
    assert given.output == "frames of acme/shop/till are described by classic, llama\n"
    listed = json.loads((await invoke("camera", "list", "--json")).stdout)
    assert listed[0]["engines"] == ["classic", "llama"]
    assert "classic, llama" in (await invoke("camera", "list")).stdout
    again = Store(tmp_path / "receiver")
    assert (await known_camera(again)).engines == ("classic", "llama"), "what its daemon says leaves them as they are"
    again.close()
    assert (await invoke("camera", "engine", str(camera.key), "default")).exit_code == 0
    assert json.loads((await invoke("camera", "list", "--json")).stdout)[0]["engines"] == []


@pytest.mark.parametrize("engines", ["openai", "gemma", "classic,classic", "", "auto"])
async def test_an_engine_that_the_settings_do_not_name_is_refused(
    engines: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await known_camera(store)
    store.close()
    monkeypatch.setenv("CROW_RECEIVER_STATE_DIR", str(tmp_path / "receiver"))
    refused = await invoke("camera", "engine", "acme/shop/till", engines)
    assert refused.exit_code == 2
    assert "it can be of llama, classic, each once" in refused.output


async def test_engines_for_a_camera_that_is_unknown_are_an_error(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.close()
    monkeypatch.setenv("CROW_RECEIVER_STATE_DIR", str(tmp_path / "receiver"))
    refused = await invoke("camera", "engine", "acme/shop/none", "classic")
    assert (refused.exit_code, "there is no camera acme/shop/none" in refused.output) == (2, True)


class Engines:
    """Engines that are as the test says."""

    states: tuple[EngineState, ...] = (EngineState("openai", None, HOUR_US, passed_over=False),)


async def test_status_says_which_engine_serves_and_which_is_down_and_why(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = Engines()
    monkeypatch.setattr(engine_watch, "LOOK_S", 0.01)
    watching = asyncio.create_task(watch_engines(engines, store))
    await until_kept(store, engines)
    down = EngineState("openai", "http://gpu/v1 cannot be reached", HOUR_US, passed_over=True)
    engines.states = (down, EngineState("classic", None, HOUR_US, passed_over=False))
    await until_kept(store, engines)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    store.close()
    EmbeddedQueue(tmp_path / "receiver" / "queue.db", SystemClock()).close()
    monkeypatch.setenv("CROW_RECEIVER_STATE_DIR", str(tmp_path / "receiver"))
    told = json.loads((await invoke("status", "--json")).stdout)["engines"]
    assert [engine["name"] for engine in told] == ["openai", "classic"]
    said = (await invoke("status")).stdout
    down_since = "engine openai: down since 2027-01-15T08:00:00+00:00, passed over: http://gpu/v1 cannot be reached"
    assert said.startswith(f"{down_since}\nengine classic: serves\n")


async def until_kept(store: Store, engines: Engines) -> None:
    async with asyncio.timeout(10):
        while tuple(await store.read(kept_engines)) != engines.states:
            await asyncio.sleep(0.01)
