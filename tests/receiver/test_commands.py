"""What `crow-receiver` tells an operator before anything runs."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from receiver_parts import HOUR_US, SECOND_US, known_camera, put

from crow_receiver.cli.main import main
from crow_receiver.queue.embedded import EmbeddedQueue
from crow_receiver.store.store import Store
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
