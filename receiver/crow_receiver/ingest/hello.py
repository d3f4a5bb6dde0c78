"""What a daemon says when it opens a stream: checked, and answered with where each of its cameras stands."""

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from crow.cctv.v1 import ingest_pb2 as pb
from crow_receiver.ingest.protocol import MAX_SEQ, PROTOCOL_VERSION
from crow_receiver.store import cameras
from crow_receiver.store.cameras import CameraRow
from crow_receiver.store.store import Transaction
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import CameraKey, checked_id
from crow_shared.zones import Zone, checked_zones, zone_from_wire

log = structlog.get_logger()

MAX_CAMERAS = 1000
MAX_NAME_CHARS = 120
MAX_REJECTED = 1000

# `missing` keeps the reasons of rejected frames in these words.
REJECT_REASONS = {
    pb.RejectCode.Name(code).removeprefix("REJECT_CODE_").lower(): code
    for code in pb.RejectCode.values()
    if code != pb.REJECT_CODE_UNSPECIFIED
}


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a daemon's cameras stand: their rows, their durable numbers, and what of them was rejected."""

    rows: Mapping[str, CameraRow]
    positions: Mapping[str, int]
    rejected: list[pb.Reject]


def checked_hello(hello: pb.Hello) -> dict[str, CameraKey]:
    """The keys of its cameras, by camera id. Raises CrowError: UNSUPPORTED, INVALID or TOO_LARGE."""
    if hello.protocol_version != PROTOCOL_VERSION:
        raise CrowError(
            Kind.UNSUPPORTED,
            "protocol_version",
            f"the daemon speaks protocol {hello.protocol_version}, this receiver {PROTOCOL_VERSION}: update the older",
        )
    for value, what in (
        (hello.organization_id, "organization id"),
        (hello.site_id, "site id"),
        (hello.daemon_id, "daemon id"),
        (hello.spool_epoch, "spool epoch"),
    ):
        checked_id(value, what)
    if len(hello.cameras) > MAX_CAMERAS:
        raise CrowError(Kind.TOO_LARGE, "too_many_cameras", f"more than {MAX_CAMERAS} cameras in Hello")
    for camera in hello.cameras:
        checked_id(camera.camera_id, "camera id")
        if camera.acked_seq > MAX_SEQ:
            raise CrowError(Kind.INVALID, "protocol_error", f"acked_seq {camera.acked_seq} is above {MAX_SEQ}")
        if len(camera.name) > MAX_NAME_CHARS:
            raise CrowError(Kind.TOO_LARGE, "name_too_long", f"camera name longer than {MAX_NAME_CHARS} characters")
        _zones(camera)
    return {c.camera_id: CameraKey(hello.organization_id, hello.site_id, c.camera_id) for c in hello.cameras}


def _zones(camera: pb.HelloCamera) -> tuple[Zone, ...]:
    return checked_zones(map(zone_from_wire, camera.zones))


def announce(tx: Transaction, hello: pb.Hello, keys: Mapping[str, CameraKey], now_us: int) -> Standing:
    """Makes the cameras known and says where each stands."""
    rows: dict[str, CameraRow] = {}
    positions: dict[str, int] = {}
    rejected: list[pb.Reject] = []
    for camera in hello.cameras:
        key = keys[camera.camera_id]
        known = cameras.find(tx.db, key) if camera.idle else None
        row = known or cameras.announce(tx.db, key, camera.name, camera.sample_interval_ms, _zones(camera))
        here = cameras.durable_seq(tx.db, row.id, hello.spool_epoch)
        if camera.acked_seq > here:
            # This receiver acknowledged more than it remembers (a restored backup). The frames are gone from the
            # spool, so the daemon's word holds; resuming earlier would wait for them for ever.
            log.error("this receiver has lost frames", camera=str(key), here=here, acked=camera.acked_seq)
            span = (
                here + 1,
                camera.acked_seq,
                cameras.RECEIVER_RESTORED,
                "acknowledged once, and not here any more",
                now_us,
            )
            cameras.pass_over(tx.db, row.id, hello.spool_epoch, *span)
        rows[camera.camera_id], positions[camera.camera_id] = row, max(here, camera.acked_seq)
        rejected += _rejected(tx, row, hello.spool_epoch, camera, MAX_REJECTED - len(rejected))
    return Standing(rows, positions, rejected)


def _rejected(tx: Transaction, row: CameraRow, epoch: str, camera: pb.HelloCamera, limit: int) -> list[pb.Reject]:
    found = cameras.missing_after(tx.db, row.id, epoch, camera.acked_seq, list(REJECT_REASONS), limit)
    return [
        pb.Reject(camera_id=camera.camera_id, seq=seq, code=REJECT_REASONS[reason], reason=detail)
        for seq, reason, detail in found
    ]
