"""Frames and sessions by HTTP: the REST surface's view of the intake and the store."""

import sqlite3
from typing import Protocol

from crow_receiver.ingest.intake import Intake
from crow_receiver.messages.coverage import Coverage
from crow_receiver.rest.port import Accepted, Opened, SessionStatus, SessionView
from crow_receiver.session.directory import SessionDirectory
from crow_receiver.store import cameras, ledger, sessions
from crow_receiver.store.sessions import SessionRow
from crow_receiver.store.store import Store, Transaction
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Frame
from crow_shared.identity import CameraKey


class Room(Protocol):
    """Who knows whether more frames wait for analysis than may."""

    @property
    def takes_frames(self) -> bool:
        """Whether there is room for further ones."""
        ...


class Uploads:
    """What `crow_receiver.rest.port.Intake` asks for."""

    def __init__(self, store: Store, intake: Intake, directory: SessionDirectory, clock: Clock, room: Room) -> None:
        self._store = store
        self._intake = intake
        self._directory = directory
        self._clock = clock
        self._room = room

    async def accept(self, camera: CameraKey, epoch: str, frame: Frame) -> Accepted:
        """Stores a frame; it is durable on return. Raises CrowError as `crow_receiver.rest.port.Intake` says."""
        if not self._room.takes_frames:
            raise CrowError(Kind.EXHAUSTED, "overloaded", "too many frames wait for analysis: try again later")
        row = await self._store.read(lambda db: cameras.find(db, camera))
        if row is None:
            raise CrowError(
                Kind.NOT_FOUND,
                "camera_unknown",
                f"there is no camera {camera.site_id}/{camera.camera_id}: open a session",
            )
        stored = await self._intake.single_frame(row, epoch, frame)
        return Accepted(stored.session_id, stored.frame_index, stored.duplicate)

    async def open_session(self, camera: CameraKey, camera_name: str | None, at_us: int) -> Opened:
        """The camera's session at that time, opened if there is none; makes the camera known."""
        now_us = self._clock.now_us()

        def work(tx: Transaction) -> tuple[SessionRow, Coverage, bool]:
            known = cameras.find(tx.db, camera)
            if known is None or (camera_name is not None and camera_name != known.name):
                interval_ms, zones = (known.sample_interval_ms, known.zones) if known else (0, ())
                known = cameras.announce(tx.db, camera, camera_name or camera.camera_id, interval_ms, zones)
            session_id = sessions.session_for(tx.db, known, at_us, self._intake.gap_us)
            created = session_id is None
            if session_id is None:
                session_id = sessions.open_session(tx.db, known, at_us, now_us).session_id
            row = sessions.find_session(tx.db, session_id)
            assert row is not None
            return row, _coverage(tx.db, row, now_us), created

        row, coverage, created = await self._store.write(work)
        if created:
            self._directory.opened(row.camera, row.id)
        return Opened(_view(row, coverage), created)

    async def session(self, organization_id: str, session_id: str) -> SessionView | None:
        """The session, or None when this organization has none of that id."""
        now_us = self._clock.now_us()

        def work(db: sqlite3.Connection) -> SessionView | None:
            row = sessions.find_session(db, session_id)
            if row is None or row.camera.key.organization_id != organization_id:
                return None
            return _view(row, _coverage(db, row, now_us))

        return await self._store.read(work)


def _coverage(db: sqlite3.Connection, row: SessionRow, now_us: int) -> Coverage:
    minutes = ledger.touched(row.first_capture_us, row.last_capture_us)
    return Coverage.of(ledger.sums(db, row.camera.id, minutes), len(minutes), now_us)


def _view(row: SessionRow, coverage: Coverage) -> SessionView:
    return SessionView(
        session_id=row.id,
        camera=row.camera.key,
        camera_name=row.camera.name,
        status=SessionStatus.OPEN if row.is_open else SessionStatus.CLOSED,
        started_us=row.first_capture_us,
        last_us=row.last_capture_us if row.frames else None,
        ended_us=None if row.is_open else row.last_capture_us,
        received=row.frames,
        analysed=row.analysed,
        failed=row.failed,
        pending=row.frames - row.analysed - row.failed,
        batches=row.batches,
        revision=max(0, row.closings - 1) if not row.is_open else row.closings,
        coverage=coverage,
    )
