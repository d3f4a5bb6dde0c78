import json
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from conftest import ManualClock

from crow_receiver.cli.queue import queue as queue_group
from crow_receiver.queue.embedded import EmbeddedQueue
from crow_receiver.queue.port import INTERACTION_QUEUE, Message
from crow_shared.cli import CrowGroup

QUEUE = INTERACTION_QUEUE


class Source:
    def __init__(self, queue: EmbeddedQueue) -> None:
        self._queue = queue

    def queue(self) -> EmbeddedQueue:
        return self._queue


class Command:
    """`crow-receiver` with this group alone, around a real queue."""

    def __init__(self, queue: EmbeddedQueue) -> None:
        self._root = CrowGroup("crow-receiver", commands={"queue": queue_group})
        self._source = Source(queue)

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(self._root, ["queue", *arguments], obj=self._source)

    def json(self, *arguments: str) -> Any:
        result = self(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture
def command(queue: EmbeddedQueue) -> Command:
    queue.publish_many(
        [Message(QUEUE, f"m{number}", b'{"cameraName":"Caf\xc3\xa9"}', {"ce-id": "x"}) for number in (1, 2)]
    )
    return Command(queue)


def test_pull_and_ack_consume_messages(command: Command) -> None:
    (message,) = command.json("pull", QUEUE, "--limit", "1")
    assert (message["messageId"], message["body"], message["attempt"]) == ("m1", {"cameraName": "Café"}, 1)
    assert command.json("ack", QUEUE, message["leaseId"]) == [{"acked": 1, "refused": 0}]
    assert [row["messageId"] for row in command.json("peek", QUEUE)] == ["m2"]


def test_an_ended_lease_is_reported_and_fails_the_command(command: Command, clock: ManualClock) -> None:
    (message,) = command.json("pull", QUEUE, "--limit", "1", "--lease", "5")
    clock.advance(6)
    result = command("ack", QUEUE, message["leaseId"])
    assert result.exit_code == 2
    assert message["leaseId"] in result.stderr
    assert command("retry", QUEUE, message["leaseId"]).exit_code == 2


def test_a_dead_letter_is_listed_with_its_reason_and_replayed(command: Command) -> None:
    for _ in range(4):
        message = command.json("pull", QUEUE, "--limit", "1")[0]
        command.json("retry", QUEUE, message["leaseId"], "--delay", "0", "--error", "no catalogue\x1b[2J")
    assert [(row["messageId"], row["attempts"]) for row in command.json("dead", QUEUE)] == [("m1", 4)]
    table = command("dead", QUEUE).stdout
    assert "no catalogue" in table
    assert "\x1b" not in table
    assert command("replay", QUEUE, "m1", "m2").exit_code == 2
    assert command.json("peek", QUEUE)[0]["state"] == "ready"


def test_replay_wants_ids_or_all_of_them_and_not_both(command: Command) -> None:
    assert command("replay", QUEUE).exit_code == 2
    assert command("replay", QUEUE, "m1", "--all").exit_code == 2
    assert command.json("replay", QUEUE, "--all") == [{"replayed": 0}]


def test_depths_are_a_table_for_people_and_json_for_programs(command: Command) -> None:
    lines = command("depths").stdout.splitlines()
    assert lines[0].split() == ["queue", "ready", "leased", "delayed", "dead", "oldestAgeSeconds"]
    assert lines[1].split() == [QUEUE, "2", "0", "0", "0", "0.0"]
    assert command.json("depths")[0]["ready"] == 2


@pytest.mark.parametrize(
    ("body", "summary"),
    [
        (
            {"frameAnalyses": [{"description": "Nobody."}, {"description": "A man looks\x1b[2J at shoes."}]},
            "2 frames: … A man looks [2J at shoes.",
        ),
        (
            {"kind": "window", "frames": {"analysed": 60}, "people": {"mean": 0.5, "max": 2}},
            "window, 60 frames: 0.5 people on average, 2 at most",
        ),
        ({"other": "thing"}, '{"other": "thing"}'),
        ({"other": "x" * 200}, '{"other": "' + "x" * 88 + "…"),
    ],
)
def test_a_table_says_in_short_what_is_in_a_message(
    body: dict[str, object], summary: str, command: Command, queue: EmbeddedQueue
) -> None:
    queue.publish_many([Message(QUEUE, "m3", json.dumps(body).encode(), {})])
    assert command("peek", QUEUE).stdout.splitlines()[-1].endswith(f"  {summary}")


def test_an_empty_queue_is_said_to_be_empty(command: Command) -> None:
    assert command("dead", QUEUE).stdout == "nothing there\n"


def test_a_queue_that_is_not_there_is_a_usage_error_that_names_the_two(command: Command) -> None:
    result = command("peek", "crow-queue")
    assert result.exit_code == 2
    assert QUEUE in result.stderr


def test_every_subcommand_says_what_it_is_for() -> None:
    for name, subcommand in queue_group.commands.items():
        assert subcommand.get_short_help_str(), name
        for parameter in subcommand.params:
            assert not isinstance(parameter, click.Option) or parameter.help, f"{name} {parameter.name}"
