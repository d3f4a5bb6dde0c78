"""A daemon that still has frames of an erased span delivers the others, and hears of each that it is refused."""

from ingest_parts import Daemon, Server
from receiver_parts import SECOND_US

from crow_receiver.store import cameras, erasures
from crow_shared.identity import CameraKey


async def test_frames_of_an_erased_span_are_refused_and_recorded_and_those_behind_them_go_on(
    server: Server, daemon: Daemon
) -> None:
    daemon.offer("till", 0)
    await daemon.drained()
    key = CameraKey("acme", "shop", "till")

    def ask(seconds: tuple[int, int]) -> str:
        tx = server.store._transaction
        camera = cameras.find(tx.db, key)
        assert camera is not None
        span = (daemon.began_us + second * SECOND_US for second in seconds)
        return erasures.request(tx.db, camera.id, *span, "", daemon.began_us)

    await server.store.write(lambda _: ask((-20, -10)))
    for seconds in (-21, *range(-20, -10), -10, -9):
        daemon.offer("till", seconds)
        daemon.offer("door", seconds)
    await daemon.drained()
    till = [seq for camera, seq in await server.stored() if camera == "till"]
    door = [seq for camera, seq in await server.stored() if camera == "door"]
    assert till == [1, 2, 13, 14]
    assert door == list(range(1, 14))
    missing = await server.store.read(
        lambda db: db.execute("select from_seq, to_seq from missing where reason = 'erased' order by 1").fetchall()
    )
    assert missing == [(seq, seq) for seq in range(3, 13)]
    lost = await daemon.spool.call(lambda spool: spool.lost())
    assert [(one.camera_id, one.frames) for one in lost] == [("till", 10)]
