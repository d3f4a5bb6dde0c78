"""Segments keep what was synced, and notice what was damaged."""

import errno
import os
from pathlib import Path

import pytest

from crow_shared.errors import CrowError, Kind
from crow_shared.segments import SegmentStore


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path / "s", segment_bytes=100)
    payloads = [bytes([index]) * 40 for index in range(10)]
    pointers = [store.append(payload) for payload in payloads]
    store.sync()
    assert [store.read(pointer) for pointer in pointers] == payloads
    assert len(store.segments()) == 4
    store.close()


def test_a_reopened_store_never_appends_to_an_old_segment(tmp_path: Path) -> None:
    first = SegmentStore(tmp_path)
    old = first.append(b"old")
    first.sync()
    first.close()
    second = SegmentStore(tmp_path)
    new = second.append(b"new")
    assert new.segment > old.segment
    assert second.read(old) == b"old"
    second.close()


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damage_is_noticed(tmp_path: Path, damage: str) -> None:
    store = SegmentStore(tmp_path)
    pointer = store.append(b"x" * 1000)
    store.close()
    (path,) = tmp_path.glob("*.seg")
    if damage == "flip":
        data = bytearray(path.read_bytes())
        data[500] ^= 1
        path.write_bytes(data)
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    with pytest.raises(CrowError) as caught:
        store.read(pointer)
    assert caught.value.kind is Kind.CORRUPT


def test_space_comes_back_by_unlinking(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path, segment_bytes=10)
    pointers = [store.append(letter * 10) for letter in (b"a", b"b", b"c")]
    assert store.keep_only([pointers[1].segment]) == 1
    assert store.segments() == [pointers[1].segment, store.current]
    store.close()


def test_an_unusable_directory_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CrowError) as caught:
        SegmentStore(tmp_path / "file" / "s")
    assert caught.value.kind is Kind.UNAVAILABLE


def failing(code: int) -> object:
    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return fail


def test_an_append_that_fails_leaves_what_was_appended_before_it_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SegmentStore(tmp_path)
    before = store.append(b"before")
    synced: list[int] = []
    sync = os.fdatasync

    def noted(descriptor: int) -> None:
        synced.append(before.segment)
        sync(descriptor)

    monkeypatch.setattr(os, "fdatasync", noted)
    with monkeypatch.context() as full:
        full.setattr(os, "writev", failing(errno.ENOSPC))
        with pytest.raises(CrowError) as caught:
            store.append(b"too much")
    assert caught.value.kind is Kind.UNAVAILABLE
    store.sync()
    assert synced == [before.segment]
    assert store.append(b"after").segment > before.segment
    store.close()


@pytest.mark.parametrize("next_append", ["rolls over", "fails"])
def test_bytes_that_could_not_be_made_durable_are_never_called_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, next_append: str
) -> None:
    store = SegmentStore(tmp_path, segment_bytes=4)
    store.append(b"lost")
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", failing(errno.EIO))
        if next_append == "fails":
            broken.setattr(os, "writev", failing(errno.ENOSPC))
            with pytest.raises(CrowError):
                store.append(b"next")
        else:
            store.append(b"next")
    with pytest.raises(CrowError) as caught:
        store.sync()
    assert caught.value.kind is Kind.UNAVAILABLE
    store.append(b"again")
    store.sync()
    store.close()


def test_a_file_that_cannot_be_removed_is_a_clear_error(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path)
    (tmp_path / "000000000001.seg").mkdir()
    with pytest.raises(CrowError) as caught:
        store.keep_only([])
    assert caught.value.kind is Kind.UNAVAILABLE
    store.close()


def test_a_directory_has_one_writer_at_a_time(tmp_path: Path) -> None:
    first = SegmentStore(tmp_path)
    with pytest.raises(CrowError) as caught:
        SegmentStore(tmp_path)
    assert caught.value.kind is Kind.CONFLICT
    first.close()
    SegmentStore(tmp_path).close()


def test_what_was_erased_is_zeros_and_its_neighbours_stay(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path)
    payloads = [bytes([65 + index]) * 10_000 for index in range(3)]
    pointers = [store.append(payload) for payload in payloads]
    store.sync()
    store.erase([pointers[1], pointers[1]])
    (path,) = tmp_path.glob("*.seg")
    assert path.read_bytes() == payloads[0] + bytes(10_000) + payloads[2]
    assert store.read(store.append(b"more")) == b"more"
    with pytest.raises(CrowError) as caught:
        store.read(pointers[1])
    assert caught.value.kind is Kind.CORRUPT
    store.keep_only([])
    store.close()
    path.unlink()
    store.erase(pointers)  # nothing is left to erase


def test_bytes_that_could_not_be_erased_are_not_called_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SegmentStore(tmp_path)
    pointer = store.append(b"x" * 10_000)
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    with pytest.raises(CrowError) as caught:
        store.erase([pointer])
    assert caught.value.kind is Kind.UNAVAILABLE
    store.close()
