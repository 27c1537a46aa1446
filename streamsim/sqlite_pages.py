"""What the bytes of SQLite's files still say, whatever is left of them: https://www.sqlite.org/fileformat2.html. Pure.

Of the write-ahead log only what its checksums vouch for; the file itself has none.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from streamsim.owed import PAGE_BYTES

Value = int | float | str | bytes | None
_FILE_HEADER: Final = 100
_LEAF_OF_TABLE: Final = 0x0D
_WAL_HEADER: Final = 32
_FRAME_HEADER: Final = 24
_WIDTHS: Final = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
"""Bytes of a value, by its serial type: null, whole numbers, a float, 0 and 1."""
_LOW_32_BITS: Final = 2**32 - 1


class Frame(NamedTuple):
    """A page in the write-ahead log. `commit`: a transaction ends with it. `sound`: its checksum holds."""

    place: int
    """Of this frame among all, from 0 on."""
    page: int
    content: bytes
    commit: bool
    sound: bool


class Log(NamedTuple):
    """A write-ahead log: the frames since it was begun anew, and how many of them SQLite will take for true."""

    frames: list[Frame]
    valid: int

    @property
    def whole(self) -> bool:
        """Nothing that was committed lies behind what SQLite takes for true: it would be forgotten without a word.

        A last frame that is not sound is what a process leaves that was killed while it wrote it, the header first.
        """
        behind = self.frames[self.valid :]
        if behind and not behind[-1].sound and behind[-1].place == len(self.frames) - 1:
            behind.pop()
        return not any(frame.commit for frame in behind)


def read_log(data: bytes) -> Log:
    """Read a write-ahead log. Where its header is damaged, the first frame says what the others have in common."""
    if len(data) < _WAL_HEADER:
        return Log([], 0)
    order = ">" if data[3:4] == b"\x83" else "<"
    header_holds = data[:3] == b"\x37\x7f\x06" and _checksum(data[:24], (0, 0), order) == _pair(data, 24)
    salts = data[16:24] if header_holds else data[_WAL_HEADER + 8 : _WAL_HEADER + 16]
    before = _pair(data, 24) if header_holds else None
    frames, valid, unbroken = list[Frame](), 0, header_holds
    size = _FRAME_HEADER + PAGE_BYTES
    for place, at in enumerate(range(_WAL_HEADER, len(data) - size + 1, size)):
        head, content = data[at : at + _FRAME_HEADER], data[at + _FRAME_HEADER : at + size]
        page, commit = struct.unpack(">II", head[:8])
        # Each checksum goes on from the one before as it is written there, so that a damaged frame is damaged alone.
        sound = before is not None and _checksum(head[:8] + content, before, order) == _pair(head, 16)
        before = _pair(head, 16)
        if head[8:16] == salts:
            frames.append(Frame(place, page, content, bool(commit), sound))
            unbroken = unbroken and sound
            valid = len(frames) if unbroken and commit else valid
    return Log(frames, valid)


def pages_of(data: bytes, log: Log) -> dict[int, bytes]:
    """Return the pages by their number, in the newest version that was committed and can be trusted."""
    pages = {at // PAGE_BYTES + 1: data[at : at + PAGE_BYTES] for at in range(0, len(data), PAGE_BYTES)}
    committed = max((number for number, frame in enumerate(log.frames, 1) if frame.commit and frame.sound), default=0)
    return pages | {frame.page: frame.content for frame in log.frames[:committed] if frame.sound}


def rows_of(number: int, page: bytes) -> Iterator[tuple[int, tuple[Value, ...]]]:
    """Yield number and values of each row that a page holds; what cannot be read is left out."""
    start = _FILE_HEADER if number == 1 else 0
    if page[start : start + 1] != bytes([_LEAF_OF_TABLE]):
        return
    count = int.from_bytes(page[start + 3 : start + 5], "big")
    for at in range(start + 8, start + 8 + 2 * min(count, PAGE_BYTES // 4), 2):
        try:
            yield _row(page, int.from_bytes(page[at : at + 2], "big"))
        except (IndexError, ValueError):
            continue


def _row(page: bytes, at: int) -> tuple[int, tuple[Value, ...]]:
    size, at = _varint(page, at)
    row, at = _varint(page, at)
    record = page[at : at + size]
    end, at = _varint(record, 0)
    kinds = list[int]()
    while at < end:
        kind, at = _varint(record, at)
        kinds.append(kind)
    values = list[Value]()
    for kind in kinds:
        width = _WIDTHS[kind] if kind < 12 else (kind - 12) // 2
        values.append(_value(kind, record[at : at + width], width))
        at += width
    if at != size or len(record) != size:
        raise ValueError(size)
    return row, tuple(values)


def _value(kind: int, raw: bytes, width: int) -> Value:
    if len(raw) != width:
        raise ValueError(width)
    if kind == 0:
        return None
    if kind == 7:
        return float(struct.unpack(">d", raw)[0])
    if kind >= 12:
        return raw.decode() if kind % 2 else raw
    return kind - 8 if kind >= 8 else int.from_bytes(raw, "big", signed=True)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for end in range(at + 1, at + 9):
        byte = data[end - 1]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, end
    return value << 8 | data[at + 8], at + 9


def _pair(data: bytes, at: int) -> tuple[int, ...]:
    return struct.unpack(">II", data[at : at + 8])


def _checksum(data: bytes, seed: tuple[int, ...], order: str) -> tuple[int, ...]:
    one, two = seed
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = one + first + two & _LOW_32_BITS
        two = two + second + one & _LOW_32_BITS
    return one, two
