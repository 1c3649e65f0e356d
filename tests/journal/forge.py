"""Makes journals of version 2 for check_test.py, by docs/reference/journal.md: shares no code with the checker but `spki`."""
import base64
import hashlib
import json
import struct
import zlib

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

LOG, SEGMENT_BYTES = bytes(range(16)), 4096 + 3072
AUDIT = ed25519.Ed25519PrivateKey.generate()


def origin_of(log=LOG):
    return f"signing-journal/{log.hex()}"


def head(leaves):
    """The Merkle Tree Hash of RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + head(leaves[:k]) + head(leaves[k:])).digest()


def path(index, leaves):
    """The inclusion proof of RFC 6962, section 2.1.1, word for word."""
    if len(leaves) == 1:
        return []
    k = 1 << (len(leaves) - 1).bit_length() - 1
    if index < k:
        return path(index, leaves[:k]) + [head(leaves[k:])]
    return path(index - k, leaves[k:]) + [head(leaves[:k])]


def frontier(leaves):
    hashes, at = [], 0
    for bit in reversed(range(len(leaves).bit_length())):
        if len(leaves) >> bit & 1:
            hashes.append(head(leaves[at:at + (1 << bit)]))
            at += 1 << bit
    return hashes


def base64_of(value):
    return base64.b64encode(value).decode()


def note(size, root, keys, origin=None):
    origin = origin or origin_of()
    text = f"{origin}\n{size}\n{base64_of(root)}\n"
    lines = ""
    for key in keys:
        raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        id_ = hashlib.sha256(origin.encode() + b"\n\1" + raw).digest()[:4]
        lines += f"— {origin} {base64_of(id_ + key.sign(text.encode()))}\n"
    return f"{text}\n{lines}".encode()


def proof(index, leaves, keys):
    hashes = "".join(base64_of(hash_) + "\n" for hash_ in path(index, leaves))
    return f"c2sp.org/tlog-proof@v1\nindex {index}\n{hashes}\n".encode() + note(len(leaves), head(leaves), keys)


def leaf(body):
    return hashlib.sha256(b"\0" + body).digest()


def body(kind, data):
    value = {"type": kind, "at": "2026-11-24T02:22:12.123456Z", "data": data}
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def frame(word, covered):
    return (struct.pack("<II", word, zlib.crc32(covered)) + covered).ljust((len(covered) + 15) // 8 * 8, b"\0")


def record(seq, text):
    return frame(len(text), struct.pack("<Q", seq) + text)


def checkpoint(size, durable, text):
    return frame(0x8000_0000 + len(text), struct.pack("<QQ", size, durable) + text)


def header(log, first, segment_bytes, text, hashes, version=2):
    rest = struct.pack("<16sQQII", log, first, segment_bytes, len(text), len(hashes)) + text + b"".join(hashes)
    rest = rest.ljust(4080, b"\0")
    return b"SIGNJRNL" + struct.pack("<II", version, zlib.crc32(rest)) + rest


class Forge:
    """Writes one journal; `parts` holds the segments by name, not yet of their whole length."""

    def __init__(self, keys=(AUDIT,), log=LOG, segment_bytes=SEGMENT_BYTES, **of_header):
        self.log, self.keys, self.segment_bytes = log, list(keys), segment_bytes
        self.leaves, self.parts, self.written, self.begins = [], {}, 0, []
        self.newest = note(0, head([]), self.keys, origin_of(log))
        self.segment(**of_header)

    def segment(self, **changed):
        first = len(self.leaves) + 1
        fields = {"log": self.log, "first": first, "segment_bytes": self.segment_bytes, "text": self.newest,
                  "hashes": frontier(self.leaves), **changed}
        self.name = f"{first:020}.journal"
        self.parts[self.name] = header(**fields)

    def write(self, *bodies, keys=None, durable=None, text=None, size=None, ends=True):
        """One write; a body that says `segment` begins a segment."""
        if b'"type":"segment"' in bodies[0]:
            self.segment()
        begin = len(self.parts[self.name])
        self.begins.append(begin)
        for one in bodies:
            self.leaves.append(leaf(one))
            self.parts[self.name] += record(len(self.leaves), one)
        if not ends:
            return self
        self.keys = list(keys or self.keys)
        number = len(self.leaves)
        self.newest = text or note(number, head(self.leaves), self.keys, origin_of(self.log))
        durable = self.written if durable is None else durable
        self.parts[self.name] += checkpoint(size or number, durable, self.newest)
        self.written = number
        # Two keys sign only the first checkpoint of the new one.
        self.keys = self.keys[:1]
        return self

    def files(self):
        assert all(len(data) <= self.segment_bytes for data in self.parts.values())
        return {name: data.ljust(self.segment_bytes, b"\0") for name, data in self.parts.items()}
