from hashlib import sha256
from pathlib import Path

import pytest

from crow_receiver.models.store import FileNote, Manifest, ModelStore
from crow_shared.errors import CrowError, Kind

MODEL, MMPROJ = b"GGUF text model", b"GGUF vision tower"


def note(content: bytes) -> FileNote:
    return FileNote(sha256=sha256(content).hexdigest(), size_bytes=len(content))


@pytest.fixture
def own_files(tmp_path: Path) -> tuple[Path, Path]:
    model, mmproj = tmp_path / "my-model.gguf", tmp_path / "my-mmproj.gguf"
    model.write_bytes(MODEL)
    mmproj.write_bytes(MMPROJ)
    return model, mmproj


def test_an_empty_store_has_no_model_and_makes_no_directory(store: ModelStore) -> None:
    assert store.installed() == []
    assert store.find("auto") is None
    assert store.find("gemma-3-4b-it") is None
    assert not store.directory.exists()


def test_an_added_model_is_found_by_its_name_and_by_auto(store: ModelStore, own_files: tuple[Path, Path]) -> None:
    added = store.add("mine", *own_files)
    assert added.model_path.read_bytes() == MODEL
    assert added.mmproj_path.read_bytes() == MMPROJ
    assert (added.manifest.model, added.manifest.mmproj) == (note(MODEL), note(MMPROJ))
    assert ModelStore(store.directory).find("mine") == added
    assert ModelStore(store.directory).find("auto") == added
    assert own_files[0].exists()


def test_auto_takes_the_largest_model(store: ModelStore, own_files: tuple[Path, Path]) -> None:
    store.add("a-small", *own_files)
    own_files[0].write_bytes(MODEL * 3)
    store.add("b-large", *own_files)
    own_files[0].write_bytes(MODEL * 2)
    store.add("c-middle", *own_files)
    found = store.find("auto")
    assert found is not None
    assert found.name == "b-large"


def test_a_model_that_is_not_there_is_reported_with_those_that_are(
    store: ModelStore, own_files: tuple[Path, Path]
) -> None:
    store.add("mine", *own_files)
    with pytest.raises(CrowError, match=r"'other' is not installed .*\(installed: mine\)") as raised:
        store.get("other")
    assert raised.value.kind is Kind.NOT_FOUND


def test_an_intact_model_is_verified_and_all_its_bytes_are_reported(
    store: ModelStore, own_files: tuple[Path, Path]
) -> None:
    added, done = store.add("mine", *own_files), []
    assert store.verify("mine", done.append) == added
    assert sum(done) == added.size_bytes


@pytest.mark.parametrize("file_name", ["model.gguf", "mmproj.gguf"])
def test_a_flipped_bit_is_refused_with_both_checksums(
    store: ModelStore, own_files: tuple[Path, Path], file_name: str
) -> None:
    path = store.add("mine", *own_files).directory / file_name
    right, damaged = path.read_bytes(), bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CrowError) as raised:
        store.verify("mine")
    assert raised.value.kind is Kind.CORRUPT
    assert sha256(right).hexdigest() in raised.value.message
    assert sha256(damaged).hexdigest() in raised.value.message


def test_a_missing_file_of_an_installed_model_is_named(store: ModelStore, own_files: tuple[Path, Path]) -> None:
    added = store.add("mine", *own_files)
    added.mmproj_path.unlink()
    with pytest.raises(CrowError, match=r"mmproj\.gguf") as raised:
        store.verify("mine")
    assert raised.value.kind is Kind.NOT_FOUND


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": {}}', "\x00"])
def test_a_manifest_that_cannot_be_read_is_an_error_and_not_a_missing_model(
    store: ModelStore, own_files: tuple[Path, Path], text: str
) -> None:
    (store.add("mine", *own_files).directory / "manifest.json").write_text(text)
    for name in ("auto", "mine"):
        with pytest.raises(CrowError, match=r"manifest\.json") as raised:
            store.find(name)
        assert raised.value.kind is Kind.CORRUPT


@pytest.mark.parametrize("name", ["", "..", "../up", "/etc", "a/b", "A", "a b", ".hidden", "x" * 64])
def test_a_name_cannot_lead_out_of_the_directory(store: ModelStore, own_files: tuple[Path, Path], name: str) -> None:
    with pytest.raises(CrowError) as raised:
        store.add(name, *own_files)
    assert raised.value.kind is Kind.INVALID
    assert not store.directory.exists()


def test_no_model_can_be_called_auto(store: ModelStore, own_files: tuple[Path, Path]) -> None:
    with pytest.raises(CrowError) as raised:
        store.add("auto", *own_files)
    assert raised.value.kind is Kind.INVALID


def test_a_file_that_is_no_gguf_is_refused(store: ModelStore, own_files: tuple[Path, Path]) -> None:
    own_files[1].write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CrowError, match=r"my-mmproj\.gguf is no GGUF file") as raised:
        store.add("mine", *own_files)
    assert raised.value.kind is Kind.INVALID
    assert store.installed() == []


def test_a_name_that_is_taken_is_not_overwritten(store: ModelStore, own_files: tuple[Path, Path]) -> None:
    first = store.add("mine", *own_files)
    own_files[0].write_bytes(MODEL * 2)
    with pytest.raises(CrowError) as raised:
        store.add("mine", *own_files)
    assert raised.value.kind is Kind.CONFLICT
    assert store.verify("mine") == first


def test_files_that_are_not_the_expected_ones_are_not_installed(
    store: ModelStore, own_files: tuple[Path, Path]
) -> None:
    expected = Manifest(model=note(MODEL), mmproj=note(b"GGUF another tower"), source="catalogue")
    with pytest.raises(CrowError) as raised:
        store.add("gemma-3-4b-it", *own_files, expected=expected)
    assert raised.value.kind is Kind.CORRUPT
    assert store.installed() == []


def test_files_can_be_added_from_their_own_place(store: ModelStore) -> None:
    directory = store.place("mine")
    directory.mkdir(parents=True)
    (directory / "model.gguf").write_bytes(MODEL)
    (directory / "mmproj.gguf").write_bytes(MMPROJ)
    store.add("mine", directory / "model.gguf", directory / "mmproj.gguf")
    assert store.verify("mine").model_path.read_bytes() == MODEL


def test_a_removed_model_is_gone_with_its_files(store: ModelStore, own_files: tuple[Path, Path]) -> None:
    directory = store.add("mine", *own_files).directory
    store.remove("mine")
    assert store.find("mine") is None
    assert not directory.exists()
    with pytest.raises(CrowError) as raised:
        store.remove("mine")
    assert raised.value.kind is Kind.NOT_FOUND


def test_two_processes_do_not_change_one_model_at_the_same_time(
    store: ModelStore, own_files: tuple[Path, Path]
) -> None:
    with store.changing("mine"):
        with pytest.raises(CrowError) as raised:
            ModelStore(store.directory).add("mine", *own_files)
        ModelStore(store.directory).add("other", *own_files)
    assert raised.value.kind is Kind.CONFLICT
    store.add("mine", *own_files)


def test_a_place_that_cannot_be_written_is_a_typed_error(tmp_path: Path, own_files: tuple[Path, Path]) -> None:
    (tmp_path / "models").write_bytes(b"a file where the directory should be")
    with pytest.raises(CrowError) as raised:
        ModelStore(tmp_path / "models").add("mine", *own_files)
    assert raised.value.kind is Kind.UNAVAILABLE
