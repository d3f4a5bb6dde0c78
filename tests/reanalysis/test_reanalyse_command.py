"""Promise: `crow-receiver reanalyse` describes kept frames again beside a receiver, and survives its own death."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import ManualClock
from receiver_parts import GAP_US, HOUR_US, LIMITS, SECOND_US, analysis, known_camera
from vision_parts import shop_picture

from crow_receiver.audit.audit import audit
from crow_receiver.audit.numbers import ALWAYS
from crow_receiver.cli.main import main
from crow_receiver.messages.interaction import batch_message_id
from crow_receiver.models.store import ModelStore
from crow_receiver.queue.embedded import EmbeddedQueue
from crow_receiver.queue.port import INTERACTION_QUEUE
from crow_receiver.session import records
from crow_receiver.session.records import Outcome
from crow_receiver.store import frames
from crow_receiver.store.arrivals import Arrival, store_stream
from crow_receiver.store.store import Store, Transaction
from crow_receiver.vision.prompt import load_prompt
from crow_shared.frame import Frame, TimeSource
from crow_sim.gemma import write_gemma3
from crow_sim.line import ReceiverService

FRAMES = 40
SESSION = "acme.shop.till.20270115T080000000Z"
NEXT = "acme.shop.till.20270115T090000000Z"
PROGRAM = """
import os, signal
from crow_receiver.cli.main import main
from crow_receiver.session import records
{}
main()
"""
DIES_AT = """
put, left = records._put, [{}]
def killed(*arguments):
    put(*arguments)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
records._put = killed
"""


async def fill(store: Store, count: int) -> None:
    """Two closed sessions of so many frames each, in which a box walks through the shop."""
    camera = await known_camera(store)
    for hour in range(2):
        arrivals = []
        for number in range(count):
            coded = shop_picture((40 + 12 * number, 120, 60, 180))
            at_us = HOUR_US + hour * 3600 * SECOND_US + number * SECOND_US
            made = Frame.of_picture("till", at_us, TimeSource.ARRIVAL, 640, 360, coded)
            fields = {field: getattr(made, field) for field in made.__slots__} | {"seq": hour * count + number + 1}
            arrivals.append(Arrival(camera, Frame(**fields), HOUR_US))
        await store.write(lambda tx, a=arrivals: store_stream(tx, "epoch", a, GAP_US))  # type: ignore[misc]

    def analysed(tx: Transaction) -> None:
        while waiting := frames.next_frames(tx.db, HOUR_US):
            (frame,) = waiting
            outcome = Outcome(frame, analysis(f"Seen at {frame.capture_us}."))
            records.record(tx, frame.session_id, [outcome], LIMITS, HOUR_US)
        for session_id in (SESSION, NEXT):
            assert records.close(tx.db, session_id, LIMITS, HOUR_US)

    await store.write(analysed)


@pytest.fixture
def state(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The state of a receiver that has it: another one is kept out."""
    directory = tmp_path / "receiver"
    store = Store(directory)
    asyncio.run(fill(store, getattr(request, "param", FRAMES)))
    EmbeddedQueue(directory / "queue.db", ManualClock()).close()
    yield directory
    store.close()


def command(state: Path, *words: str) -> Result:
    return CliRunner().invoke(main, words, env={"CROW_RECEIVER_STATE_DIR": str(state)})


def reanalyse(state: Path, *words: str) -> Result:
    done = command(state, "reanalyse", "--session", SESSION, "--engine", "classic", *words)
    assert done.exit_code == 0, done.output
    return done


def rows(state: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(state / "receiver.db")) as db:
        return db.execute(query).fetchall()


def faults(state: Path) -> list[Any]:
    queue = EmbeddedQueue(state / "queue.db", ManualClock())
    try:
        return list(audit(state, queue, ManualClock(), ALWAYS, None, ()).faults)
    finally:
        queue.close()


def test_a_session_is_described_again_by_another_engine_and_the_difference_shown(state: Path, tmp_path: Path) -> None:
    out = tmp_path / "difference.json"
    done = reanalyse(state, "--json", str(out))
    assert "40 compared" in done.stdout
    assert "more in" in done.stdout
    told = json.loads(out.read_text())
    assert told["sessions"] == [SESSION]
    assert (told["difference"]["compared"], len(told["frames"])) == (FRAMES, FRAMES)
    assert told["difference"]["people"]["more"] > FRAMES / 2, "classic sees the box"
    assert {frame["now"]["provenance"]["engine"] for frame in told["frames"]} == {"classic"}
    assert {frame["before"]["provenance"]["engine"] for frame in told["frames"]} == {"scripted"}
    assert rows(state, "select count(*) from outbox where message_id like '%:1:1'") == [(0,)], "nothing was dispatched"


def test_the_same_command_goes_on_and_another_one_does_not(state: Path) -> None:
    assert "10 compared" in reanalyse(state, "--limit", "10").stdout
    assert "15 compared" in reanalyse(state, "--limit", "5").stdout
    span = ["--camera", "acme/shop/till", "--from", "2027-01-15T08:00:05Z", "--to", "2027-01-15T08:00:08Z"]
    other = command(state, "reanalyse", *span, "--engine", "classic")
    assert "run        2" in other.stdout
    assert "3 compared" in other.stdout
    assert "run        3" in reanalyse(state, "--limit", "1", "--again").stdout
    assert "2 compared" in reanalyse(state, "--limit", "1").stdout, "the latest run of the same goes on"


def test_an_incomplete_run_is_not_dispatched_and_a_complete_one_once(state: Path) -> None:
    early = command(
        state, "reanalyse", "--session", SESSION, "--engine", "classic", "--limit", "3", "--dispatch", "--yes"
    )
    assert early.exit_code == 2
    assert "37 frames left" in early.stderr
    assert reanalyse(state).exit_code == 0
    unsure = command(state, "reanalyse", "--session", SESSION, "--engine", "classic", "--dispatch")
    assert unsure.exit_code == 1
    assert "count twice" in unsure.output
    assert "4 batches are told again" in reanalyse(state, "--dispatch", "--yes").stdout
    assert "0 batches are told again" in reanalyse(state, "--dispatch", "--yes").stdout
    assert "--again begins another" in reanalyse(state).stderr
    assert "dispatched" in command(state, "reanalyses").stdout
    revised = rows(state, "select message_id from outbox where message_id like '%:interaction:%:1' order by id")
    assert revised == [(f"{SESSION}:interaction:{index}:1",) for index in range(4)]
    assert faults(state) == []


def process(state: Path, *words: str, patch: str = "") -> "subprocess.Popen[bytes]":
    program = [sys.executable, "-c", PROGRAM.format(patch), "reanalyse", "--engine", "classic"]
    environ = {**os.environ, "CROW_RECEIVER_STATE_DIR": str(state)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen([*program, "--session", SESSION, "--session", NEXT, *words], env=environ, **pipes)  # type: ignore[call-overload, no-any-return]


@pytest.mark.line
@pytest.mark.parametrize("state", [120], indirect=True)
def test_a_run_that_is_killed_goes_on_where_it_was_and_each_frame_is_told_once(state: Path) -> None:
    with process(state) as first:
        deadline = time.monotonic() + 50
        while rows(state, "select count(*) from reanalysed")[0][0] < 5:
            assert first.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        first.kill()
    done = rows(state, "select frame, body from reanalysed")
    assert 5 <= len(done) < 240
    with process(state, "--dispatch", "--yes", patch=DIES_AT.format(6)) as second:
        said = second.communicate(timeout=50)[0].decode()
    assert second.returncode == -signal.SIGKILL, said
    again = dict(rows(state, "select frame, body from reanalysed"))
    assert all(again[frame] == body for frame, body in done), "what was done is not done again"
    assert len(again) == 240
    assert rows(state, "select count(distinct session_id) from outbox where message_id like '%:interaction:%:1'") == [
        (1,)
    ]
    assert faults(state) == []
    with process(state, "--dispatch", "--yes") as third:
        said = third.communicate(timeout=50)[0].decode()
    assert third.returncode == 0, said
    revised = Counter(
        message_id
        for (message_id,) in rows(state, "select message_id from outbox where message_id like '%:interaction:%:1'")
    )
    assert revised == Counter(f"{session}:interaction:{index}:1" for session in (SESSION, NEXT) for index in range(12))
    summaries = rows(state, "select message_id from outbox where message_id like '%:session:%' order by id")
    assert summaries == [(f"{session}:session:{revision}",) for revision in (0, 1) for session in (SESSION, NEXT)]
    assert faults(state) == []


@pytest.mark.line
@pytest.mark.parametrize("state", [120], indirect=True)
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(state: Path) -> None:
    with process(state) as running:
        while rows(state, "select count(*) from reanalysed")[0][0] < 5:
            assert running.poll() is None
            time.sleep(0.005)
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=50)[0].decode()
    assert running.returncode == 1, said
    assert "the same command goes on" in said
    assert "Traceback" not in said


@pytest.mark.line
def test_a_receiver_that_runs_meanwhile_takes_the_revisions_to_the_queues(tmp_path: Path) -> None:
    state = tmp_path / "receiver"
    store = Store(state)
    asyncio.run(fill(store, 20))
    store.close()
    settings = {
        "CROW_RECEIVER_GRPC__LISTEN": "127.0.0.1:0",
        "CROW_RECEIVER_REST__LISTEN": "127.0.0.1:0",
        "CROW_RECEIVER_VISION__ENGINE": "classic",
        "CROW_RECEIVER_RETENTION__PICTURES_H": "8760",  # the frames' clock is not that of the receiver
        "CROW_RECEIVER_RETENTION__RECORDS_H": "8760",
    }
    with ReceiverService(state, settings) as receiver:
        receiver.run("reanalyse", "--session", SESSION, "--session", NEXT, "--dispatch", "--yes")

        def waiting() -> int:
            return int(rows(state, "select count(*) from outbox where dispatched_us is null")[0][0])

        deadline = time.monotonic() + 30
        while waiting():
            assert time.monotonic() < deadline, "messages wait"
            time.sleep(0.05)
        queued = {
            message["messageId"] for message in receiver.json("queue", "peek", INTERACTION_QUEUE, "--limit", "50")
        }
        assert receiver.json("audit")["ok"]
        assert receiver.stop() == 0
    ids = {batch_message_id(session, index, told) for session in (SESSION, NEXT) for index in (0, 1) for told in (0, 1)}
    assert queued == ids


@pytest.mark.llama
@pytest.mark.parametrize("state", [2], indirect=True)
def test_gemma_describes_frames_again(state: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    ModelStore(state / "models").add("small", *write_gemma3(tmp_path))
    out = tmp_path / "difference.json"
    prompt = tmp_path / "new.toml"
    prompt.write_text('version = "new"\ninstructions = "Look."\nquestion = "What is at {camera}, in {zones}?"\n')
    arguments = ["--session", SESSION, "--prompt", str(prompt), "--model", "small", "--json", str(out)]
    done = command(state, "reanalyse", *arguments, "--dispatch", "--yes")
    assert done.exit_code == 0, done.output
    told = json.loads(out.read_text())
    assert [engine["models"] for engine in told["asked"]["engines"]] == [["small"]]
    assert len(told["asked"]["engines"][0]["model_sha256"]) == 64
    assert told["difference"]["compared"] == 2
    assert {frame["now"]["provenance"]["model"] for frame in told["frames"]} == {"small"}
    assert {frame["now"]["provenance"]["prompt_version"] for frame in told["frames"]} == {
        load_prompt(str(prompt)).version
    }
    assert "1 batches are told again" in done.stdout
    assert faults(state) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "say which frames"),
        (("--session", SESSION, "--camera", "acme/shop/till"), "say which frames"),
        (("--camera", "acme/shop/till", "--from", "2027-01-15T08:00:05Z"), "say which frames"),
        (("--session", "nowhere"), "there is no session nowhere"),
        (
            ("--camera", "acme/shop/till", "--from", "2027-01-16T08:00:00Z", "--to", "2027-01-16T09:00:00Z"),
            "no session in that time",
        ),
        (("--session", SESSION, "--json", "nowhere/difference.json"), "there is no directory 'nowhere'"),
        (("--session", SESSION, "--engine", "llama"), "vision.engine names llama, but"),
    ],
)
@pytest.mark.parametrize("state", [1], indirect=True)
def test_what_cannot_be_done_is_said_and_leaves_no_run(state: Path, words: tuple[str, ...], says: str) -> None:
    done = command(state, "reanalyse", *words)
    assert done.exit_code == 2
    assert says in done.output
    assert rows(state, "select count(*) from reanalysis") == [(0,)]
