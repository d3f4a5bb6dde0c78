"""`crow-receiver erase` and `crow-receiver erasures`."""

import asyncio
import json
import time
from typing import Any

import click

from crow_receiver.cli.camera_argument import CameraArgument
from crow_receiver.cli.context import Context
from crow_receiver.cli.table import echo_table
from crow_receiver.erasure import Eraser
from crow_receiver.ingest.intake import FUTURE_MOST_US
from crow_receiver.queue.embedded import EmbeddedQueue
from crow_receiver.store import cameras, erasures
from crow_receiver.store.erasures import Erasure
from crow_receiver.store.store import Store
from crow_shared.cli import MomentArgument, iso
from crow_shared.clock import SystemClock
from crow_shared.database import transaction
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import CameraKey

_POLL_S = 0.5


@click.command()
@click.option("--camera", type=CameraArgument(), required=True, help="Whose frames.")
@click.option("--from", "from_us", type=MomentArgument(), required=True, help="Frames captured from then on.")
@click.option("--to", "to_us", type=MomentArgument(), required=True, help="Frames captured before then.")
@click.option("--reason", required=True, help="Why; it is kept with the receipt.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--wait", "wait_s", type=click.FloatRange(0), default=600, show_default=True, help="Seconds, at most.")
@click.option("--json", "as_json", is_flag=True, help="Print the receipt as JSON.")
@click.pass_obj
def erase(
    context: Context,
    camera: CameraKey,
    from_us: int,
    to_us: int,
    reason: str,
    yes: bool,
    wait_s: float,
    as_json: bool,
) -> None:
    """Erase a camera's frames of a stretch of time.

    Pictures, analyses and failures go for good, from the disk and from messages that no consumer has taken; frames of
    that time that come later are refused. What consumers have taken is listed in the receipt: follow it up. Works
    whether the receiver runs or not.
    """
    if from_us >= to_us:
        raise click.UsageError("--to has to be later than --from")
    if to_us > SystemClock().now_us() + FUTURE_MOST_US:
        raise click.UsageError("--to is more than a day ahead: what comes until then would be refused")
    if not yes:
        click.confirm(f"Erase all frames of {camera} from {iso(from_us)} to {iso(to_us)} for good?", abort=True)
    with context.database() as db, transaction(db):
        known = cameras.find(db, camera)
        if known is None:
            raise CrowError(Kind.NOT_FOUND, "camera_unknown", f"there is no camera {camera}")
        erasure_id = erasures.request(db, known.id, from_us, to_us, reason, SystemClock().now_us())
    receipt = _awaited(context, erasure_id, wait_s)
    if as_json:
        click.echo(json.dumps(receipt, indent=2))
    else:
        _print(receipt)


@click.command("erasures")
@click.option("--json", "as_json", is_flag=True, help="Print the whole receipts as JSON.")
@click.pass_obj
def list_erasures(context: Context, as_json: bool) -> None:
    """List what was erased, and what is being erased."""
    with context.database() as db:
        found = erasures.every(db)
    if as_json:
        click.echo(json.dumps([_as_json(erasure) for erasure in found], indent=2))
    elif not found:
        click.echo("nothing was erased")
    else:
        echo_table(["id", "camera", "from", "to", "frames", "taken", "done", "reason"], [_row(e) for e in found])


def _awaited(context: Context, erasure_id: str, wait_s: float) -> dict[str, Any]:
    """The receipt, from whoever carries the request out: the running receiver, else we."""
    ends = time.monotonic() + wait_s
    while True:
        _carry_out(context)
        with context.database() as db:
            receipt = erasures.by_id(db, erasure_id).receipt
        if receipt is not None:
            told: dict[str, Any] = json.loads(receipt)
            return told
        if time.monotonic() > ends:
            raise CrowError(
                Kind.TIMEOUT,
                "erasure_under_way",
                f"erasure {erasure_id} is not done yet; the receiver goes on, `crow-receiver erasures` says when it is",
            )
        time.sleep(_POLL_S)


def _carry_out(context: Context) -> None:
    """Does the work here unless a receiver has the state; leaves it for later while an audit reads."""
    try:
        store = Store(context.settings.state_path)
    except CrowError as error:
        if error.code == "store_in_use":
            return
        raise
    queue = context.queue()
    try:
        asyncio.run(_erased(store, queue))
    except CrowError as error:
        if error.code != "database_busy":
            raise
    finally:
        queue.close()
        store.close()


async def _erased(store: Store, queue: EmbeddedQueue) -> None:
    await Eraser(store, queue, SystemClock(), None, asyncio.Lock()).run_once()


def _print(receipt: dict[str, Any]) -> None:
    span = f"{iso(receipt['from_us'])} to {iso(receipt['to_us'])}"
    click.echo(f"erased {receipt['camera']} from {span}: receipt {receipt['id']}")
    click.echo(f"{receipt['frames']} frames, {receipt['pictures']} pictures, {receipt['analyses']} analyses")
    click.echo(f"messages: {receipt['messages_rebuilt']} rebuilt, {receipt['messages_withdrawn']} withdrawn")
    for message_id in receipt["messages_taken"]:
        click.echo(f"a consumer has taken {message_id}: have it erased there")
    click.echo(f"sha256 {receipt['sha256']}")


def _as_json(erasure: Erasure) -> dict[str, Any]:
    if erasure.receipt is not None:
        done: dict[str, Any] = json.loads(erasure.receipt)
        return done
    return erasure.facts() | {"done_us": None}


def _row(erasure: Erasure) -> list[str]:
    done = _as_json(erasure)
    taken = str(len(done["messages_taken"])) if done["done_us"] else "-"
    when = iso(done["done_us"]) if done["done_us"] else "under way"
    span = [iso(erasure.from_us), iso(erasure.to_us)]
    return [erasure.id, str(erasure.camera), *span, str(erasure.frames), taken, when, erasure.reason]
