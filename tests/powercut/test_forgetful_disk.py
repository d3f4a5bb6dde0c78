"""The shim sees everything, and the disk forgets what was not synced, and only that."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from disk_log import DiskLog, Op, promise
from forgetful_disk import ForgetfulDisk, write_out

BUSY = """
import os, sqlite3, sys
from pathlib import Path
root = Path(sys.argv[1])
(root / "kept").write_bytes(b"before" * 1000)
directory = root / "made" / "deep"
directory.mkdir(parents=True)
fd = os.open(directory / "file", os.O_CREAT | os.O_RDWR)
os.write(fd, b"a" * 5000)
os.pwrite(fd, b"b" * 700, 4900)
os.writev(fd, [b"c" * 10, b"d" * 2000])
os.ftruncate(fd, 6000)
os.posix_fallocate(fd, 0, 9000)
os.fsync(fd)
(directory / "new").write_text("renamed")
(directory / "new").replace(directory / "old")
(root / "gone").touch()
(root / "gone").unlink()
with open(root / "kept", "ab") as file:
    file.write(b"appended")
db = sqlite3.connect(root / "x.db", isolation_level=None)
db.execute("pragma journal_mode = wal")
db.execute("create table t (b blob)")
for number in range(300):
    db.execute("insert into t values (?)", (os.urandom(20_000),))
db.execute("delete from t where rowid % 2")
db.execute("vacuum")
if len(sys.argv) == 2:
    os.kill(os.getpid(), 9)
"""


def recorded(shim: Path, tmp_path: Path, program: str, *arguments: str) -> tuple[DiskLog, ForgetfulDisk]:
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)
    disk = ForgetfulDisk(root)
    log = DiskLog(tmp_path / "log", root, shim)
    subprocess.run([sys.executable, "-c", program, root, *arguments], env={**os.environ, **log.environ}, check=False)
    return log, disk


@pytest.mark.parametrize("ending", [(), ("orderly",)])
def test_a_replayed_log_gives_the_directory_byte_for_byte(shim: Path, tmp_path: Path, ending: tuple[str, ...]) -> None:
    log, disk = recorded(shim, tmp_path, BUSY, *ending)
    for record in log.records():
        disk.apply(record)
    real = {str(path.relative_to(log.root)): path.read_bytes() for path in log.root.rglob("*") if path.is_file()}
    real = {name: content for name, content in real.items() if not name.endswith("-shm")}
    assert len(real) >= (3 if ending else 4)
    assert disk.whole() == real


def test_what_the_shim_cannot_follow_is_not_believed(shim: Path, tmp_path: Path) -> None:
    mapped = "import mmap, sys; f = open(sys.argv[1] + '/f', 'wb+'); f.truncate(4096); mmap.mmap(f.fileno(), 4096)"
    log, disk = recorded(shim, tmp_path, mapped)
    with pytest.raises(AssertionError, match="cannot be replayed"):
        for record in log.records():
            disk.apply(record)


SYNCS = """
import os, sys
root = sys.argv[1]
directory = os.open(root, os.O_RDONLY)
fd = os.open(root + "/file", os.O_CREAT | os.O_WRONLY)
os.write(fd, b"1" * 10_000)
os.fsync(fd)
os.fsync(directory)
os.write(fd, b"2" * 10_000)
os.close(os.open(root + "/unsynced", os.O_CREAT))
os.rename(root + "/unsynced", root + "/renamed")
"""


def test_synced_bytes_stay_and_others_come_and_go(shim: Path, tmp_path: Path) -> None:
    log, disk = recorded(shim, tmp_path, SYNCS)
    for record in log.records():
        disk.apply(record)
    chance = random.Random(1)
    left = [disk.after_cut(chance) for _ in range(300)]
    files = [cut["file"] for cut in left]
    assert all(file is not None and file.startswith(b"1" * 10_000) for file in files)
    tails = [file[10_000:] for file in files if file is not None]
    assert {b"", b"2" * 10_000} < set(tails)
    assert any(0 < tail.count(b"2") < len(tail) for tail in tails), "torn within the write"
    assert {frozenset(cut) - {"file"} for cut in left} == {frozenset(), frozenset({"unsynced"}), frozenset({"renamed"})}


def test_a_file_is_gone_when_only_its_bytes_were_synced(shim: Path, tmp_path: Path) -> None:
    log, disk = recorded(shim, tmp_path, SYNCS)
    for record in log.records():
        if record.op is Op.SYNC_DIRECTORY:
            break
        disk.apply(record)
    assert any("file" not in disk.after_cut(random.Random(seed)) for seed in range(20))


def test_a_disk_can_be_cut_again_after_it_was_written_out(tmp_path: Path) -> None:
    root = write_out({"directory": None, "directory/file": b"durable"}, tmp_path / "root")
    assert ForgetfulDisk(root).after_cut(random.Random(0)) == {"directory": None, "directory/file": b"durable"}


def test_promises_stand_in_the_log_in_their_order(shim: Path, tmp_path: Path) -> None:
    log, _ = recorded(shim, tmp_path, SYNCS)
    promise(log.log, {"stored": 7})
    *before, last = log.records()
    assert (last.op, last.promised) == (Op.PROMISE, {"stored": 7})
    assert all(record.op is not Op.PROMISE for record in before)
