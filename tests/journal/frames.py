"""Headers and frames of a segment, and what is a torn write, by docs/reference/journal.md."""
import struct
import zlib
from collections import namedtuple

from tree import Tree, need, note

HEADER, SECTOR = 4096, 512
BODY_MAX, NOTE_MAX, UNDER_WAY_MAX = 32768, 416, 4608
CHECKPOINT = 0x8000_0000

Header = namedtuple("Header", "log first note tree")
Frame = namedtuple("Frame", "is_record number durable text at end")
# What the first four bytes of a frame say: where its body or note begins and ends, and where the next frame does.
Extent = namedtuple("Extent", "is_record begin stop end")


def header(data):
    need(len(data) >= HEADER, "shorter than a header")
    magic, version, crc, log, first, size, length, hashes = struct.unpack_from("<8sII16sQQII", data)
    need(magic == b"SIGNJRNL", "not a segment")
    need(version == 2, f"a segment of version {version}, and this is for version 2")
    need(crc == zlib.crc32(data[16:HEADER]), "the header's CRC does not fit")
    need(size == len(data), f"{len(data)} bytes, made with {size}")
    need(0 < first < 1 << 63, f"it begins with record {first}")
    need(0 < length <= NOTE_MAX and hashes <= 64, f"a note of {length} bytes and {hashes} hashes")
    need(hashes == (first - 1).bit_count(), f"{hashes} hashes are no frontier of {first - 1} leaves")
    begin, end = 56 + length, 56 + length + 32 * hashes
    need(not any(data[end:HEADER]), "the header ends not in zeros")
    tree = Tree(first - 1, (data[at:at + 32] for at in range(begin, end, 32)))
    checkpoint = note(data[56:begin])
    need(checkpoint.origin == f"signing-journal/{log.hex()}", "the header's checkpoint is of another log")
    need(checkpoint.size == first - 1, f"the header's checkpoint is of size {checkpoint.size}, and it begins with record {first}")
    need(checkpoint.root == tree.root(), "the frontier does not hash to the checkpoint's root")
    need(first > 1 or len(checkpoint.signatures) == 1, "the checkpoint of size 0 has two signatures")
    return Header(log, first, checkpoint, tree)


def extent(data, at):
    """Of the frame at that offset, by its length; None: the length is out of range or the frame out of the file."""
    if at + 8 > len(data):
        return None
    word, = struct.unpack_from("<I", data, at)
    is_record = word < CHECKPOINT
    length = word & ~CHECKPOINT
    begin = at + (16 if is_record else 24)
    end = (begin + length + 7) // 8 * 8
    if not 0 < length <= (BODY_MAX if is_record else NOTE_MAX) or end > len(data):
        return None
    return Extent(is_record, begin, begin + length, end)


def checksum_fits(data, at, stop):
    return struct.unpack_from("<I", data, at + 4)[0] == zlib.crc32(data[at + 8:stop])


def frame(data, at):
    """The whole frame at that offset; None if the frames end."""
    if not any(data[at:at + 4]):
        need(not any(data[at:]), "the frames end, and bytes follow that are not zero")
        return None
    its = extent(data, at)
    need(its, "its length is out of range, or it does not fit into the segment")
    need(checksum_fits(data, at, its.stop), "its CRC does not fit")
    need(not any(data[its.stop:its.end]), "its padding is not zeros")
    number, = struct.unpack_from("<Q", data, at + 8)
    durable = None if its.is_record else struct.unpack_from("<Q", data, at + 16)[0]
    return Frame(its.is_record, number, durable, data[its.begin:its.stop], at, its.end)


class Tail:
    """What stands in the newest segment behind the end of its newest checkpoint, which has that size."""

    def __init__(self, data, end, size, origin):
        self.data, self.end, self.size = data, end, size
        self.used = len(data.rstrip(b"\0"))
        self.note_begins = origin.encode() + b"\n"

    def torn_bytes(self):
        """How many bytes a torn write left there; a defect if it is none."""
        if self.used <= self.end:
            return 0
        gap = self.what_is_missing()
        self.nothing_claims_it()
        came = 0
        for begin, stop, end in self.rows(gap):
            self.row_fits(begin, stop, end)
            came += stop - begin - self.data[begin:stop].count(0)
        # No beginning of a frame stands at the end.
        self.need(gap != self.end or came >= 16, self.end, self.size, "less than 16 bytes alone came")
        return self.used - self.end

    def what_is_missing(self):
        """Reads whole records up to where something is missing; where the first gap begins, if one does."""
        at, newest = self.end, self.size
        while at < self.used:
            if self.gap(at, at + 1) is not None:
                return at
            its = extent(self.data, at)
            self.need(its, at, newest, "no frame begins there, and nothing is missing")
            gap = self.gap(at, its.stop)
            if gap is not None or its.stop > self.used:
                self.begins(at, its, its.stop if gap is None else gap, newest)
                return gap
            self.need(checksum_fits(self.data, at, its.stop), at, newest, "its CRC does not fit, and nothing of it is missing")
            self.need(not any(self.data[its.stop:its.end]), at, newest, "its padding is not zeros")
            self.need(its.is_record, at, newest, "a whole checkpoint does not verify")
            self.need(self.number(at) == newest + 1, at, newest, f"its number is {self.number(at)}")
            at, newest = its.end, newest + 1
        return None

    def need(self, holds, at, newest, what):
        need(holds, f"record {newest + 1} at byte {at}: {what}")

    def number(self, at):
        return struct.unpack_from("<Q", self.data, at + 8)[0]

    def gap(self, at, stop):
        """The first sector of those between, as far as it lies behind `at`, that is all zeros."""
        while at < stop:
            end = min(at // SECTOR * SECTOR + SECTOR, len(self.data))
            if not any(self.data[at:end]):
                return at
            at = end
        return None

    def begins(self, at, its, missing, newest):
        """What stands of a frame before something of it is missing is the beginning of one."""
        def holds(condition, what):
            self.need(condition, at, newest, f"it is not whole, and not torn: {what}")

        holds(any(self.data[at + 4:at + 8]), "it has no checksum")
        if missing >= at + 16:
            wanted = newest + 1 if its.is_record else newest
            holds(self.number(at) == wanted, f"its number is {self.number(at)}")
        holds(its.is_record or newest > self.size, "a checkpoint without a record")
        if not its.is_record and missing >= at + 24:
            durable, = struct.unpack_from("<Q", self.data, at + 16)
            holds(durable <= self.size, f"it says that {durable} was on disk")
        stands = min(missing, its.stop, self.used)
        holds(self.is_text(its, stands), "its body or note is none")
        if its.stop - 1 == self.used and its.stop % SECTOR != 1:
            last = b"}" if its.is_record else b"\n"
            whole = zlib.crc32(self.data[at + 8:its.stop - 1] + last)
            holds(struct.unpack_from("<I", self.data, at + 4)[0] != whole, "only its last byte is missing")
        said, crc = struct.unpack_from("<I", self.data, at + 4)[0], 0
        for byte in range(at + 8, stands):
            crc = zlib.crc32(self.data[byte:byte + 1], crc)
            holds(crc != said, f"its CRC fits, if it ends at byte {byte + 1}")

    def is_text(self, its, stop):
        """Whether a body or note begins as one does, as far as it stands before `stop`."""
        text = self.data[its.begin:min(stop, its.stop)]
        begins = b'{"at":"' if its.is_record else self.note_begins
        return text[:len(begins)] == begins[:len(text)] and not any(map(is_other, text))

    def nothing_claims_it(self):
        for at in range(self.end, self.used, 8):
            its = extent(self.data, at)
            if its is None or not checksum_fits(self.data, at, its.stop):
                continue
            number = self.number(at)
            self.need(self.size < number <= self.size + UNDER_WAY_MAX, at, self.size, f"a whole frame with the number {number}")
            if not its.is_record:
                durable, = struct.unpack_from("<Q", self.data, at + 16)
                self.need(durable <= self.size, self.end, self.size, f"a checkpoint at byte {at} says that {durable} was on disk")

    def rows(self, gap):
        """Rows of sectors behind the gap that came: begin, end of the last byte that is not zero, end of its sector."""
        begin, at = None, self.used if gap is None else gap
        while at < self.used:
            end = min(at // SECTOR * SECTOR + SECTOR, len(self.data))
            came = any(self.data[at:end])
            if came and begin is None:
                begin = at
            if begin is not None and (not came or end >= self.used):
                end_of_row = end if came else at
                yield begin, begin + len(self.data[begin:end_of_row].rstrip(b"\0")), end_of_row
                begin = None
            at = end

    def row_fits(self, begin, stop, end):
        def fits(condition, what):
            self.need(condition, begin, self.size, f"behind what is missing stands what no write left: {what}")

        row = self.data[begin:stop]
        # The rest of a frame: up to 24 bytes of its beginning, bytes of its body or note, zeros.
        text = begin + 24
        while text < stop and not is_other(self.data[text]):
            text += 1
        zeros = text
        while zeros < min(text + 7, stop) and self.data[zeros] == 0:
            zeros += 1
        rest = min(zeros, begin + 24 + BODY_MAX + 7)
        fits(rest >= stop or any(self.frames_follow(at, stop, end) for at in range(begin, rest + 1, 8)), "no rest of a frame, and no frame")

    def frames_follow(self, at, stop, end):
        while at < stop:
            its = extent(self.data, at)
            if its is None or not self.is_text(its, stop) or any(self.data[its.stop:min(its.end, end)]):
                return False
            if at + 16 <= end and not self.size < self.number(at) <= self.size + UNDER_WAY_MAX:
                return False
            at = its.end
        return True


def is_other(byte):
    return byte < 0x20 and byte != 0x0a
