"""A disk that forgets: what may lie on it after the power was cut at some point of a log.

What is guaranteed, and nothing more:

1. Bytes, size and zeroed ranges of a file are there up to its last fsync or fdatasync.
2. Entries of a directory (created, renamed, removed) are there up to its last fsync. Syncing a file does not make its
   entry durable.
3. A rename within a directory happens whole or not at all.
4. A sector of 512 bytes is written whole or not at all, and holds its writes up to some point in their order.

All else is drawn by chance: nothing, all or a beginning of what was not synced, or each page or each sector for itself,
so that writes are torn and reordered within and across files; the size may come without its bytes, which then read as
zeros or as garbage; directory entries likewise, in order or each for itself.

ext4 (data=ordered, as Debian mounts it) promises more: an fsync commits the journal and with it every earlier metadata
operation of the whole file system, in order, and a size never comes before its bytes. Other file systems do not, and
POSIX asks for none of it (Pillai et al., "All File Systems Are Not Created Equal", OSDI '14, table 1): what holds here
holds on ext4, xfs and btrfs alike. Left out: devices that lie about a sync, and sectors that rot.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from disk_log import Op, Record

SECTOR_BYTES = 512
PAGE_BYTES = 4096
REBUILT = "-shm"  # SQLite makes its shared memory anew after a crash; it is mapped, not written


@dataclass(slots=True)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Record] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.durable, change)
        self.pending.clear()

    def whole(self) -> bytes:
        content = bytearray(self.durable)
        for change in self.pending:
            _apply(content, change)
        return bytes(content)

    def after_cut(self, chance: random.Random) -> bytes:
        if not self.pending:
            return bytes(self.durable)
        match chance.choice(("nothing", "all", "beginning", "pages", "sectors")):
            case "nothing":
                return bytes(self.durable)
            case "all":
                return self.whole()
            case "beginning":
                content = bytearray(self.durable)
                for change in self.pending[: chance.randint(0, len(self.pending))]:
                    _apply(content, change)
                return bytes(content)
            case "pages":
                return self._in_blocks(chance, PAGE_BYTES)
            case _:
                return self._in_blocks(chance, SECTOR_BYTES)

    def _in_blocks(self, chance: random.Random, block_bytes: int) -> bytes:
        """Each block with its writes up to a point of its own; the size likewise."""
        sizes = [len(self.durable)]
        for change in self.pending:
            sizes.append(_size_after(change, sizes[-1]))
        content = bytearray(max(sizes))
        content[: len(self.durable)] = self.durable
        if chance.random() < 0.3:
            content[len(self.durable) :] = chance.randbytes(len(content) - len(self.durable))
        reached: dict[int, int] = {}  # block → how many of the pending changes it has seen
        for number, change in enumerate(self.pending):
            start, end, data = _span(change, len(content))
            for block in range(start // block_bytes, (end + block_bytes - 1) // block_bytes):
                if block not in reached:
                    reached[block] = chance.randint(0, len(self.pending))
                if reached[block] > number:
                    first, last = max(start, block * block_bytes), min(end, (block + 1) * block_bytes)
                    content[first:last] = data[first - start : last - start] if data else bytes(last - first)
        size = chance.choice(sizes)
        return bytes(content[:size])


@dataclass(frozen=True, slots=True)
class _Entries:
    """A step from one set of directory entries to the next."""

    removed: tuple[str, ...]
    added: tuple[str, "_Node"] | None


@dataclass(slots=True)
class _Directory:
    now: dict[str, "_Node"] = field(default_factory=dict)
    durable: dict[str, "_Node"] = field(default_factory=dict)
    pending: list[_Entries] = field(default_factory=list)

    def change(self, added: "tuple[str, _Node] | None", *removed: str) -> None:
        step = _Entries(removed, added)
        _step(self.now, step)
        self.pending.append(step)

    def sync(self) -> None:
        self.durable = dict(self.now)
        self.pending.clear()

    def after_cut(self, chance: random.Random) -> "dict[str, _Node]":
        entries = dict(self.durable)
        how = chance.choice(("nothing", "all", "beginning", "each"))
        until = {"nothing": 0, "beginning": chance.randint(0, len(self.pending))}.get(how, len(self.pending))
        for step in self.pending[:until]:
            if how != "each" or chance.random() < 0.5:
                _step(entries, step)
        return entries


_Node = _File | _Directory


class ForgetfulDisk:
    """The files under one directory, replayed from a log."""

    def __init__(self, root: Path) -> None:
        """Begins with what lies in `root` now, all of it durable."""
        self._root = root.resolve()
        self._by_inode: dict[int, _Node] = {}
        self._top = self._load(self._root)

    def apply(self, record: Record) -> None:
        """Does what a record says."""
        match record.op:
            case Op.PROMISE:
                return
            case Op.UNSEEN:
                raise AssertionError(f"the log cannot be replayed: {record}")
            case Op.CREATE | Op.MKDIR:
                node: _Node = _File() if record.op is Op.CREATE else _Directory()
                self._by_inode[record.file] = node
                self._parent(record.path).change((Path(record.path).name, node))
            case Op.UNLINK | Op.RMDIR:
                self._parent(record.path).change(None, Path(record.path).name)
            case Op.RENAME:
                old, new = Path(record.path), Path(record.data.decode())
                assert old.parent == new.parent, f"a rename between directories is not modelled: {record}"
                directory = self._parent(record.path)
                directory.change((new.name, directory.now[old.name]), old.name)
            case Op.SYNC | Op.SYNC_DIRECTORY:
                self._by_inode[record.file].sync()
            case _:
                if not record.path.endswith(REBUILT):
                    file = self._by_inode[record.file]
                    assert isinstance(file, _File)
                    file.pending.append(record)

    def whole(self) -> dict[str, bytes]:
        """Every file with all that was written, by its path below the root."""
        return dict(_files(self._top))

    def after_cut(self, chance: random.Random) -> dict[str, bytes | None]:
        """What may be left when the power is cut now; None for a directory."""
        return dict(self._left(self._top, "", chance))

    def _left(self, directory: _Directory, at: str, chance: random.Random) -> Iterator[tuple[str, bytes | None]]:
        for name, node in sorted(directory.after_cut(chance).items()):
            if isinstance(node, _Directory):
                yield at + name, None
                yield from self._left(node, f"{at}{name}/", chance)
            elif not name.endswith(REBUILT):
                yield at + name, node.after_cut(chance)

    def _parent(self, path: str) -> _Directory:
        node: _Node = self._top
        for part in Path(path).relative_to(self._root).parent.parts:
            assert isinstance(node, _Directory)
            node = node.now[part]
        assert isinstance(node, _Directory)
        return node

    def _load(self, path: Path) -> _Directory:
        directory = _Directory()
        self._by_inode[path.stat().st_ino] = directory
        for child in path.iterdir():
            if child.is_dir():
                directory.now[child.name] = self._load(child)
            elif child.is_file():
                file = directory.now[child.name] = _File(bytearray(child.read_bytes()))
                self._by_inode[child.stat().st_ino] = file
        directory.sync()
        return directory


def write_out(left: dict[str, bytes | None], root: Path) -> Path:
    """Puts what is left of a disk into a new directory."""
    root.mkdir()
    for name, content in left.items():
        if content is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(content)
    return root


def cut_points(records: Sequence[Record], count: int, chance: random.Random) -> list[int]:
    """So many points of a log, in order: before each of them the power is cut."""
    return sorted(chance.choices(range(len(records) + 1), k=count))


def _files(directory: _Directory, at: str = "") -> Iterator[tuple[str, bytes]]:
    for name, node in directory.now.items():
        if isinstance(node, _Directory):
            yield from _files(node, f"{at}{name}/")
        elif not name.endswith(REBUILT):
            yield at + name, node.whole()


def _step(entries: dict[str, _Node], step: _Entries) -> None:
    for name in step.removed:
        entries.pop(name, None)
    if step.added is not None:
        entries[step.added[0]] = step.added[1]


def _span(change: Record, size: int) -> tuple[int, int, bytes]:
    """(start, end, bytes) that a change writes; no bytes stand for zeros. `size` is the most that there can be."""
    match change.op:
        case Op.WRITE:
            return change.offset, change.offset + len(change.data), change.data
        case Op.ZERO:
            return change.offset, min(size, change.offset + int.from_bytes(change.data, "little")), b""
        case _:
            return change.offset, size, b""


def _size_after(change: Record, size: int) -> int:
    match change.op:
        case Op.WRITE:
            return max(size, change.offset + len(change.data))
        case Op.TRUNCATE:
            return change.offset
        case _:
            return size


def _apply(content: bytearray, change: Record) -> None:
    size = _size_after(change, len(content))
    start, end, data = _span(change, len(content))
    if change.op is Op.TRUNCATE:
        del content[size:]
    if size > len(content):
        content.extend(bytes(size - len(content)))
    if change.op is not Op.TRUNCATE and end > start:
        content[start:end] = data or bytes(end - start)
