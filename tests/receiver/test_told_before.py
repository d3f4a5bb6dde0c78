"""What engines hear with a frame: what was said of the one before, and what the operator says of the camera."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import ManualClock
from receiver_parts import HOUR_US, SECOND_US, Receiver, ScriptedVision, analysis, until

from crow_receiver.cli.main import main
from crow_receiver.store.cameras import announce, set_brief
from crow_receiver.store.store import Store
from crow_receiver.vision.brief import NO_BRIEF, Brief
from crow_receiver.vision.port import Previous, VisionRequest
from crow_receiver.vision.schema import Analysis
from crow_shared.identity import CameraKey

KEY = CameraKey("acme", "shop", "till")


def saying(asked: list[VisionRequest]) -> ScriptedVision:
    def answer(request: VisionRequest) -> Analysis:
        asked.append(request)
        made = analysis()
        return made.model_copy(update={"scene": made.scene.model_copy(update={"description": f"Frame {len(asked)}."})})

    return ScriptedVision(answer)


async def test_the_engine_hears_what_was_said_of_the_frame_before_and_what_the_operator_says(
    store: Store, clock: ManualClock
) -> None:
    asked: list[VisionRequest] = []
    receiver = Receiver(store, clock, saying(asked), tells_previous=True)
    await receiver.frame(1, HOUR_US)
    await receiver.start()
    await until(lambda: len(asked) == 1)
    brief = Brief("over the till", ("bread",), "German")
    assert await store.write(lambda tx: set_brief(tx.db, KEY, brief))
    await receiver.frame(2, HOUR_US + 2 * SECOND_US)
    await until(lambda: len(asked) == 2)
    await receiver.frame(3, HOUR_US + 90 * SECOND_US)
    await until(lambda: len(asked) == 3)
    await receiver.stop()
    assert [request.previous for request in asked] == [None, Previous("Frame 1.", 2.0), None]
    assert [request.brief for request in asked] == [NO_BRIEF, brief, brief]


async def test_nothing_is_told_of_the_frame_before_where_that_is_not_wanted(store: Store, clock: ManualClock) -> None:
    asked: list[VisionRequest] = []
    receiver = Receiver(store, clock, saying(asked))
    await receiver.frame(1, HOUR_US)
    await receiver.frame(2, HOUR_US + SECOND_US)
    await receiver.start()
    await until(lambda: len(asked) == 2)
    await receiver.stop()
    assert [request.previous for request in asked] == [None, None]


async def brief(*words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ("camera", "brief", *words))


async def test_an_operator_says_what_models_are_told_of_a_camera_piece_by_piece(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.write(lambda tx: announce(tx.db, KEY, "Till", 1000))
    store.close()
    monkeypatch.setenv("CROW_RECEIVER_STATE_DIR", str(tmp_path / "receiver"))
    await brief(str(KEY), "--context", "over the till", "--product", "bread", "--product", "cake")
    said = await brief(str(KEY), "--language", "German")
    assert said.stdout == "context   over the till\nproducts  bread, cake\nlanguage  German\n"
    listed = await asyncio.to_thread(CliRunner().invoke, main, ("camera", "list", "--json"))
    expected = {"context": "over the till", "products": ["bread", "cake"], "language": "German"}
    assert json.loads(listed.stdout)[0]["brief"] == expected
    cleared = await brief(str(KEY), "--clear", "--product", "wine")
    assert cleared.stdout == "context   -\nproducts  wine\nlanguage  English\n"
    for words, says in (
        ((str(KEY), "--context", "x" * 301), "301 characters"),
        (("acme/shop/none", "--context", "x"), "there is no camera"),
    ):
        refused = await brief(*words)
        assert (refused.exit_code, says in refused.output) == (2, True)
