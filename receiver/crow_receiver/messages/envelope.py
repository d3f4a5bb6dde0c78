"""A body as a queue message: CloudEvents attributes in the headers (binary mode), the body as it stands.

An envelope that nests the body would make the interaction service drop it as malformed.
"""

from datetime import UTC, datetime

from crow_receiver.messages.interaction import InteractionBatch
from crow_receiver.messages.pattern import PatternWindow
from crow_receiver.queue.port import INTERACTION_QUEUE, PATTERN_QUEUE, Message


def queue_message(body: InteractionBatch | PatternWindow) -> Message:
    """The message for the queue that the body belongs to; its time is the end of what it tells of."""
    if isinstance(body, InteractionBatch):
        queue, kind, time_ms = INTERACTION_QUEUE, "interaction-batch", body.batch_end_timestamp
    else:
        queue, kind, time_ms = PATTERN_QUEUE, "pattern-window", body.window_end
    headers = {
        "ce-specversion": "1.0",
        "ce-id": body.message_id,
        "ce-type": f"crow.cctv.{kind}.v{body.schema_version}",
        "ce-source": f"/organizations/{body.organization_id}/sites/{body.site_id}/cameras/{body.camera_id}",
        "ce-time": datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "content-type": "application/json",
    }
    return Message(queue, body.message_id, body.to_json(), headers)
