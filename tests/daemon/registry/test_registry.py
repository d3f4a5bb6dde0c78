"""The registry's promises: what is stored is checked, kept apart and counted."""

import resource
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crow_daemon.registry.camera import (
    Blur,
    Camera,
    CaptureMode,
    GateMode,
    ReaderChoice,
    Recording,
    RtspAddress,
    Transport,
)
from crow_daemon.registry.registry import Registry
from crow_daemon.registry.secret import Secret
from crow_daemon.registry.url import CameraUrl
from crow_shared.errors import CrowError, Kind
from crow_shared.zones import Zone, ZoneKind

CANARY = "c4nary-p@ssword"
URL = CameraUrl.parse("rtsp://192.168.1.64:554/stream1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "cameras.db"


@pytest.fixture
def registry(path: Path) -> Iterator[Registry]:
    registry = Registry(path)
    yield registry
    registry.close()


def camera(camera_id: str = "till", username: str | None = "shop") -> Camera:
    return Camera(camera_id, "Till", RtspAddress(URL, username))


def test_a_camera_comes_back_as_it_was_stored(registry: Registry, path: Path) -> None:
    live = Camera(
        "till",
        "Till 1",
        RtspAddress(URL, "shop", Transport.UDP, CameraUrl.parse("rtsp://192.168.1.64:554/stream2")),
        sample_interval_ms=200,
        gate=GateMode.PERSON,
        heartbeat_s=30,
        jpeg_long_side=640,
        jpeg_quality=70,
        mode=CaptureMode.DECODE,
        reader=ReaderChoice.PYAV,
        motion_ttl_s=1.5,
        pre_roll=False,
        masks=(((0.0, 0.0), (0.25, 0.0), (0.25, 0.5)),),
        blur=Blur.PEOPLE,
        zones=(
            Zone("Front entrance", ZoneKind.AREA, ((0.5, 0.5), (1.0, 0.5), (1.0, 1.0))),
            Zone("Door", ZoneKind.LINE, ((0.0, 1.0), (1.0, 1.0))),
        ),
        grid_row=1,
        grid_column=0,
        enabled=False,
    )
    recording = Camera("monday", "Monday", Recording(Path("/var/rec/a b.mp4"), 1_700_000_000_000_000))
    registry.add(live)
    registry.add(recording)
    other = Registry(path)
    assert [replace(one, revision=1) for one in other.cameras()] == [recording, live]
    assert other.get("till").source == live.source
    other.close()


@pytest.mark.parametrize(
    "name", ["Tür \"links\" / 'rechts'", "'; drop table camera; --", "../../etc/passwd", "商店 📷", "%s {0} \\n"]
)
def test_names_are_stored_literally(registry: Registry, name: str) -> None:
    registry.add(replace(camera(), name=name))
    assert registry.get("till").name == name
    assert len(registry.cameras()) == 1


@given(st.text(min_size=1, max_size=120).filter(str.isprintable))
def test_every_printable_name_is_accepted(name: str) -> None:
    assert replace(camera(), name=name).name == name


@pytest.mark.parametrize("name", ["", "a\nb", "a\x1b[31mb", "a\x00", "x" * 121, "a\u202eb"])
def test_control_characters_and_endless_names_are_refused(name: str) -> None:
    with pytest.raises(CrowError) as caught:
        replace(camera(), name=name)
    assert (caught.value.kind, caught.value.code) == (Kind.INVALID, "bad_name")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sample_interval_ms", 32),
        ("sample_interval_ms", 3_600_001),
        ("heartbeat_s", 0),
        ("jpeg_long_side", 10),
        ("jpeg_quality", 101),
        ("id", "Till"),
        ("id", "../x"),
    ],
)
def test_a_field_out_of_bounds_is_refused(field: str, value: object) -> None:
    with pytest.raises(CrowError) as caught:
        replace(camera(), **{field: value})
    assert caught.value.kind is Kind.INVALID


def test_the_file_and_its_folder_are_private(registry: Registry, path: Path) -> None:
    registry.add(camera(), Secret(CANARY))
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_password_is_shown_by_nothing(registry: Registry) -> None:
    registry.add(camera(), Secret(CANARY))
    credentials = registry.credentials("till")
    assert credentials is not None
    assert credentials.password.reveal() == CANARY
    for text in (repr(credentials), str(credentials), f"{credentials.password}", repr(registry.cameras())):
        assert CANARY not in text


def test_a_password_stays_until_it_is_replaced_or_the_user_name_goes(registry: Registry) -> None:
    registry.add(camera(), Secret(CANARY))
    registry.update(replace(registry.get("till"), name="New name"))
    kept = registry.credentials("till")
    assert kept is not None
    assert kept.password == Secret(CANARY)
    registry.update(registry.get("till"), Secret("another"))
    changed = registry.credentials("till")
    assert changed is not None
    assert changed.password == Secret("another")
    registry.update(replace(registry.get("till"), source=RtspAddress(URL)))
    assert registry.credentials("till") is None
    registry.update(replace(registry.get("till"), source=RtspAddress(URL, "shop")))
    assert registry.credentials("till") == replace(kept, password=Secret(""))


def test_a_removed_camera_takes_its_password_along(registry: Registry, path: Path) -> None:
    registry.add(camera(), Secret(CANARY))
    registry.remove("till")
    registry.add(camera())
    again = registry.credentials("till")
    assert again is not None
    assert again.password == Secret("")


def test_an_id_is_given_once(registry: Registry) -> None:
    registry.add(camera(), Secret(CANARY))
    with pytest.raises(CrowError) as caught:
        registry.add(camera(), Secret("other"))
    assert (caught.value.kind, caught.value.code) == (Kind.CONFLICT, "camera_exists")
    kept = registry.credentials("till")
    assert kept is not None
    assert kept.password == Secret(CANARY)


@pytest.mark.parametrize("method", ["get", "remove"])
def test_an_unknown_camera_is_not_found_and_the_nearest_is_named(registry: Registry, method: str) -> None:
    registry.add(camera())
    with pytest.raises(CrowError, match="did you mean till") as caught:
        getattr(registry, method)("tull")
    assert caught.value.kind is Kind.NOT_FOUND


def test_every_change_raises_the_version_for_other_processes_too(registry: Registry, path: Path) -> None:
    other = Registry(path)
    seen = [other.version()]
    for change in (
        lambda: registry.add(camera()),
        lambda: registry.update(replace(registry.get("till"), enabled=False)),
        lambda: registry.update(registry.get("till"), Secret("x")),
        lambda: registry.remove("till"),
    ):
        change()
        seen.append(other.version())
    other.close()
    assert seen == sorted(set(seen))


def test_a_failed_change_changes_nothing(registry: Registry) -> None:
    before = registry.version()
    with pytest.raises(CrowError):
        registry.remove("none")
    assert registry.version() == before


def test_a_revision_is_never_used_twice(registry: Registry) -> None:
    revisions = []
    for _ in range(3):
        registry.add(camera())
        revisions.append(registry.get("till").revision)
        registry.update(registry.get("till"))
        revisions.append(registry.get("till").revision)
        registry.remove("till")
    assert revisions == sorted(set(revisions))


def test_a_recording_that_was_read_to_its_end_is_never_read_again(registry: Registry) -> None:
    recording = Camera("monday", "Monday", Recording(Path("/rec/a.mp4"), 0))
    registry.add(recording)
    stale = registry.get("monday").revision
    registry.update(replace(registry.get("monday"), name="Renamed"))
    registry.mark_finished("monday", stale)
    assert not registry.get("monday").finished
    registry.mark_finished("monday", registry.get("monday").revision)
    registry.update(replace(registry.get("monday"), name="Again"))
    assert registry.get("monday").finished
    for enabled in (False, True):
        registry.update(replace(registry.get("monday"), enabled=enabled))
    assert registry.get("monday").finished
    for other in (Recording(Path("/rec/b.mp4"), 0), Recording(Path("/rec/a.mp4"), 1)):
        registry.update(replace(registry.get("monday"), source=other))
        assert not registry.get("monday").finished
    registry.update(replace(registry.get("monday"), source=recording.source))
    assert registry.get("monday").finished
    registry.remove("monday")
    registry.add(recording)
    assert not registry.get("monday").finished
    assert not registry.was_read(recording)


def test_a_damaged_entry_is_named(registry: Registry) -> None:
    registry.add(camera())
    registry._db.execute("update camera set gate = 'sideways'")
    with pytest.raises(CrowError, match="'till'") as caught:
        registry.cameras()
    assert caught.value.kind is Kind.CORRUPT


def test_a_live_camera_is_never_finished(registry: Registry) -> None:
    registry.add(camera("till"))
    registry.mark_finished("till", registry.get("till").revision)
    assert registry.get("till").wanted


def test_a_disk_that_refuses_a_change_is_one_clear_error_and_changes_nothing(registry: Registry) -> None:
    till = Camera("till", "Till", RtspAddress(URL, "shop"))
    registry.add(till, Secret(CANARY))
    before = registry.version()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # no file may grow any more
    try:
        with pytest.raises(CrowError, match="the camera registry") as raised:
            registry.update(replace(till, enabled=False))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.kind is Kind.UNAVAILABLE
    assert (registry.get("till").enabled, registry.version()) == (True, before)
