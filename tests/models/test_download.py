import shutil
from hashlib import sha256
from pathlib import Path
from random import Random

import httpx
import pytest
from file_server import FileServer

from crow_receiver.models.catalogue import CatalogueModel, RemoteFile, catalogue
from crow_receiver.models.download import download
from crow_receiver.models.pull import ORIGIN, pull
from crow_receiver.models.store import FileNote, ModelStore
from crow_shared.errors import CrowError, Kind

CONTENT = b"GGUF" + Random(1).randbytes(1_000_000)
TOWER = b"GGUF" + Random(2).randbytes(300_000)
NOTE = FileNote(sha256=sha256(CONTENT).hexdigest(), size_bytes=len(CONTENT))
ENTRY = CatalogueModel(
    about="a test",
    model=RemoteFile(url=f"{ORIGIN}/model", sha256=NOTE.sha256, size_bytes=len(CONTENT)),
    mmproj=RemoteFile(url=f"{ORIGIN}/mmproj", sha256=sha256(TOWER).hexdigest(), size_bytes=len(TOWER)),
)


@pytest.fixture
def target(tmp_path: Path, server: FileServer) -> Path:
    server.files = {"/model": CONTENT, "/mmproj": TOWER}
    return tmp_path / "model.gguf"


def fetch(server: FileServer, target: Path, tries: int = 3, path: str = "/model") -> int:
    """Downloads and returns the bytes that were reported as done."""
    done: list[int] = []
    with httpx.Client(follow_redirects=True) as client:
        download(client, server.url + path, target, NOTE, done.append, [0.0] * tries)
    return sum(done)


def pull_test(store: ModelStore, server: FileServer) -> None:
    pull(store, "gemma-test", ENTRY, lambda _: None, mirror=server.url + "/", pauses_s=())


def part(target: Path) -> Path:
    return target.with_name("model.gguf.part")


def test_a_whole_file_arrives_and_leaves_no_part(server: FileServer, target: Path) -> None:
    assert fetch(server, target) == len(CONTENT)
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["model.gguf"]


def test_a_connection_cut_midway_is_taken_up_where_it_broke(server: FileServer, target: Path) -> None:
    server.cut_after_bytes = [400_000, 200_000]
    assert fetch(server, target) == len(CONTENT)
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=400000-", "bytes=600000-"]


def test_a_later_call_resumes_what_an_earlier_one_left(server: FileServer, target: Path) -> None:
    server.cut_after_bytes = [400_000]
    with pytest.raises(CrowError) as raised:
        fetch(server, target, tries=0)
    assert raised.value.kind is Kind.UNAVAILABLE
    assert not target.exists()
    assert part(target).stat().st_size == 400_000
    assert fetch(server, target) == len(CONTENT)
    assert server.asked[-1] == ("/model", "bytes=400000-")
    assert target.read_bytes() == CONTENT


def test_a_redirect_is_followed_with_the_range_each_time(server: FileServer, target: Path) -> None:
    server.redirects = {"/model?download": "/model"}
    server.cut_after_bytes = [400_000]
    fetch(server, target, path="/model?download")
    assert target.read_bytes() == CONTENT
    assert server.asked[-2:] == [("/model?download", "bytes=400000-"), ("/model", "bytes=400000-")]


def test_a_server_without_ranges_is_asked_for_all_again(server: FileServer, target: Path) -> None:
    server.ranges = False
    server.cut_after_bytes = [400_000]
    assert fetch(server, target) == len(CONTENT)
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges_that_always_breaks_off_is_given_up(server: FileServer, target: Path) -> None:
    server.ranges = False
    server.cut_after_bytes = [400_000] * 100
    with pytest.raises(CrowError) as raised:
        fetch(server, target, tries=2)
    assert raised.value.kind is Kind.UNAVAILABLE
    assert len(server.asked) == 3


def test_other_bytes_are_refused_with_both_checksums_and_removed(server: FileServer, target: Path) -> None:
    other = bytes(len(CONTENT))
    server.files["/model"] = other
    with pytest.raises(CrowError) as raised:
        fetch(server, target)
    assert raised.value.kind is Kind.CORRUPT
    assert NOTE.sha256 in raised.value.message
    assert sha256(other).hexdigest() in raised.value.message
    assert list(target.parent.iterdir()) == []


def test_a_part_of_something_else_is_refused_and_the_next_call_starts_afresh(server: FileServer, target: Path) -> None:
    part(target).write_bytes(bytes(400_000))
    with pytest.raises(CrowError) as raised:
        fetch(server, target)
    assert raised.value.kind is Kind.CORRUPT
    fetch(server, target)
    assert target.read_bytes() == CONTENT


def test_a_complete_part_is_used_without_asking_the_server(server: FileServer, target: Path) -> None:
    part(target).write_bytes(CONTENT)
    assert fetch(server, target) == len(CONTENT)
    assert target.read_bytes() == CONTENT
    assert server.asked == []


def test_a_part_that_is_too_long_is_started_again(server: FileServer, target: Path) -> None:
    part(target).write_bytes(CONTENT + b"more")
    assert fetch(server, target) == len(CONTENT)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("held_bytes", [0, 10])
@pytest.mark.parametrize("size_bytes", [11, 500_000, len(CONTENT) + 1])
def test_a_file_of_another_size_is_refused_before_it_is_fetched(
    server: FileServer, target: Path, size_bytes: int, held_bytes: int
) -> None:
    part(target).write_bytes(CONTENT[:held_bytes])
    server.files["/model"] = (CONTENT + b"more")[:size_bytes]
    with pytest.raises(CrowError) as raised:
        fetch(server, target)
    assert raised.value.kind is Kind.CORRUPT
    assert part(target).read_bytes() == CONTENT[:held_bytes]


def test_a_server_that_has_less_than_the_part_is_refused(server: FileServer, target: Path) -> None:
    part(target).write_bytes(CONTENT[:1000])
    server.files["/model"] = CONTENT[:500]
    with pytest.raises(CrowError) as raised:
        fetch(server, target)
    assert raised.value.kind is Kind.CORRUPT


def test_a_body_of_unknown_length_is_taken_when_it_is_whole_and_resumed_when_it_is_not(
    server: FileServer, target: Path
) -> None:
    server.says_length = False
    server.cut_after_bytes = [400_000]
    assert fetch(server, target) == len(CONTENT)
    assert [wanted for _, wanted in server.asked] == [None, "bytes=400000-"]
    assert target.read_bytes() == CONTENT


def test_a_body_of_unknown_length_that_does_not_end_is_given_up_and_forgotten(server: FileServer, target: Path) -> None:
    server.says_length = False
    server.files["/model"] = CONTENT + b"and no end"
    with pytest.raises(CrowError, match="more than the pinned") as raised:
        fetch(server, target)
    assert raised.value.kind is Kind.CORRUPT
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("said", ["bytes 0-999999/1000004", "bytes 400000-1000003/2000000", "bytes */1000004", "what"])
def test_a_range_that_was_not_asked_for_is_refused_and_the_part_stays(
    server: FileServer, target: Path, said: str
) -> None:
    part(target).write_bytes(CONTENT[:400_000])
    server.says_range = said
    with pytest.raises(CrowError) as raised:
        fetch(server, target)
    assert raised.value.kind is Kind.CORRUPT
    assert said in raised.value.message
    assert part(target).read_bytes() == CONTENT[:400_000]


def test_redirects_in_a_circle_are_left_after_some(server: FileServer, target: Path) -> None:
    server.redirects = {"/model": "/other", "/other": "/model"}
    with pytest.raises(CrowError) as raised:
        fetch(server, target)
    assert (raised.value.kind, raised.value.code) == (Kind.INVALID, "bad_url")
    assert len(server.asked) < 30


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/model"])
def test_a_redirect_to_what_is_no_web_address_is_refused(server: FileServer, target: Path, place: str) -> None:
    server.redirects = {"/model": place}
    with pytest.raises(CrowError) as raised:
        fetch(server, target)
    assert (raised.value.kind, raised.value.code) == (Kind.INVALID, "bad_url")
    assert len(server.asked) == 1


def test_a_server_that_hangs_up_without_an_answer_leaves_the_part_for_the_next_call(
    server: FileServer, target: Path
) -> None:
    part(target).write_bytes(CONTENT[:400_000])
    server.hangs_up = 1
    with pytest.raises(CrowError) as raised:
        fetch(server, target)
    assert raised.value.kind is Kind.UNAVAILABLE
    assert fetch(server, target) == len(CONTENT)
    assert target.read_bytes() == CONTENT


def test_a_server_that_stalls_is_left_and_taken_up_where_it_stopped(server: FileServer, target: Path) -> None:
    server.cut_after_bytes, server.stalls = [400_000], True
    with httpx.Client(timeout=0.3) as client:
        download(client, f"{server.url}/model", target, NOTE, lambda _: None, [0.0])
    assert [wanted for _, wanted in server.asked] == [None, "bytes=400000-"]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Kind.UNAUTHENTICATED),
        (403, Kind.UNAUTHENTICATED),
        (404, Kind.NOT_FOUND),
        (429, Kind.UNAVAILABLE),
        (500, Kind.UNAVAILABLE),
        (304, Kind.UNAVAILABLE),
    ],
)
def test_what_the_server_says_becomes_a_typed_error(server: FileServer, target: Path, status: int, kind: Kind) -> None:
    server.status = status
    with pytest.raises(CrowError, match=str(status)) as raised:
        fetch(server, target)
    assert raised.value.kind is kind
    assert len(server.asked) == 1


def test_credentials_of_a_mirror_are_in_no_message(server: FileServer, target: Path) -> None:
    server.url = server.url.replace("http://", "http://user:hunter2@")
    with pytest.raises(CrowError) as raised:
        fetch(server, target, path="/nothing")
    assert "hunter2" not in raised.value.message


def test_a_pulled_model_is_installed_and_verified(store: ModelStore, server: FileServer, target: Path) -> None:
    pull_test(store, server)
    installed = store.verify("gemma-test")
    assert (installed.model_path.read_bytes(), installed.mmproj_path.read_bytes()) == (CONTENT, TOWER)
    assert installed.manifest.source == ENTRY.model.url


def test_a_pull_that_breaks_off_installs_nothing_and_the_next_one_fetches_only_the_rest(
    store: ModelStore, server: FileServer, target: Path
) -> None:
    server.cut_after_bytes = [len(CONTENT), 100_000]
    with pytest.raises(CrowError) as raised:
        pull_test(store, server)
    assert raised.value.kind is Kind.UNAVAILABLE
    assert ENTRY.mmproj.sha256 in raised.value.message
    assert ENTRY.model.sha256 not in raised.value.message
    assert store.find("gemma-test") is None
    pull_test(store, server)
    assert server.asked[-1] == ("/mmproj", "bytes=100000-")
    assert len(server.asked) == 3
    store.verify("gemma-test")


def test_a_damaged_file_is_replaced_by_the_next_pull(store: ModelStore, server: FileServer, target: Path) -> None:
    pull_test(store, server)
    store.get("gemma-test").model_path.write_bytes(bytes(len(CONTENT)))
    server.asked.clear()
    pull_test(store, server)
    store.verify("gemma-test")
    assert [path for path, _ in server.asked] == ["/model"]


def test_without_a_network_the_message_says_what_to_put_where(store: ModelStore) -> None:
    with pytest.raises(CrowError) as raised:
        pull(store, "gemma-test", ENTRY, lambda _: None, mirror="http://127.0.0.1:1")
    assert raised.value.kind is Kind.UNAVAILABLE
    for file, place in ((ENTRY.model, "model.gguf"), (ENTRY.mmproj, "mmproj.gguf")):
        assert file.url in raised.value.message
        assert file.sha256 in raised.value.message
        assert str(store.directory / "gemma-test" / place) in raised.value.message


def test_files_put_in_place_by_hand_are_checked_and_installed_without_a_network(store: ModelStore) -> None:
    directory = store.place("gemma-test")
    directory.mkdir(parents=True)
    (directory / "model.gguf").write_bytes(CONTENT)
    (directory / "mmproj.gguf").write_bytes(TOWER)
    pull(store, "gemma-test", ENTRY, lambda _: None, mirror="http://127.0.0.1:1")
    store.verify("gemma-test")


def test_a_pull_that_cannot_fit_on_the_disk_asks_for_nothing(
    store: ModelStore, server: FileServer, target: Path
) -> None:
    free_bytes = shutil.disk_usage(target.parent).free
    huge = ENTRY.model_copy(update={"model": ENTRY.model.model_copy(update={"size_bytes": free_bytes})})
    with pytest.raises(CrowError) as raised:
        pull(store, "gemma-test", huge, lambda _: None, mirror=server.url)
    assert raised.value.kind is Kind.EXHAUSTED
    assert server.asked == []


def test_the_catalogue_pins_every_file_of_the_three_sizes_to_one_commit() -> None:
    models = catalogue().models
    assert list(models) == ["gemma-3-4b-it", "gemma-3-12b-it", "gemma-3-27b-it"]
    files = [file for entry in models.values() for file in (entry.model, entry.mmproj)]
    assert len({file.sha256 for file in files}) == len(files)
    for file in files:
        place = httpx.URL(file.url)
        assert place.host == httpx.URL(ORIGIN).host
        assert len(place.path.split("/")[4]) == 40
    for name, entry in models.items():
        assert f"/{name}-GGUF/" in entry.model.url
        assert entry.model.url.rpartition("/")[0] == entry.mmproj.url.rpartition("/")[0]
