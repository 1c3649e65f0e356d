"""The tree, its checkpoints and proofs, by docs/reference/journal.md ("The tree", "A checkpoint", "The receipt")."""
import base64
import binascii
import hashlib
import re
from collections import namedtuple

Note = namedtuple("Note", "origin size root text signatures raw")
Proof = namedtuple("Proof", "index path note")
NUMBER = re.compile(r"0|[1-9]\d{0,18}")
ORIGIN = re.compile(r"signing-journal/[0-9a-f]{32}")


class Defect(Exception):
    pass


def need(holds, what):
    if not holds:
        raise Defect(what)


def leaf_of(body):
    return hashlib.sha256(b"\0" + body).digest()


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    """Of `size` leaves, of which only the roots of the perfect subtrees are kept."""

    def __init__(self, size=0, frontier=()):
        self.size, self.frontier = size, list(frontier)

    def add(self, leaf):
        # A subtree as large as the one beside it makes one of twice the size with it.
        size = self.size
        while size & 1:
            leaf, size = node(self.frontier.pop(), leaf), size >> 1
        self.frontier.append(leaf)
        self.size += 1

    def root(self):
        if not self.frontier:
            return hashlib.sha256().digest()
        *rest, root = self.frontier
        for left in reversed(rest):
            root = node(left, root)
        return root


def root_of(leaf, index, size, path):
    """The root that an inclusion proof gives: RFC 9162, section 2.1.3.2, for the tree of RFC 6962."""
    need(index < size, f"the index {index} is not in a tree of {size}")
    root, at, last, path = leaf, index, size - 1, list(path)
    while last:
        if at & 1 or at < last:
            need(path, "the proof has too few hashes")
            root = node(path.pop(0), root) if at & 1 else node(root, path.pop(0))
        at, last = at >> 1, last >> 1
    need(not path, "the proof has too many hashes")
    return root


def decoded(text, length, what):
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Defect(f"{what} is not base64: {text!r}") from None
    need(base64.b64encode(value).decode() == text, f"{what} is not canonical base64: {text!r}")
    need(length is None or len(value) == length, f"{what} has {len(value)} bytes, and should have {length}")
    return value


def decimal(text, what):
    need(NUMBER.fullmatch(text), f"{what} is no number: {text!r}")
    return int(text)


def note(raw):
    """The checkpoint in a note; its signatures are read and not verified."""
    try:
        lines = raw.decode().split("\n")
    except UnicodeDecodeError:
        raise Defect("the note is not UTF-8") from None
    need(len(lines) in (6, 7) and lines[3] == "" and lines[-1] == "", "the note is not three lines, an empty one and signatures")
    origin, size, root = lines[:3]
    need(ORIGIN.fullmatch(origin), f"the note's origin is {origin!r}")
    signatures = []
    for line in lines[4:-1]:
        need(line.startswith(f"— {origin} "), f"a signature's line begins not with the origin: {line!r}")
        value = decoded(line[len(f"— {origin} "):], 68, "a signature")
        signatures.append((value[:4], value[4:]))
    text = raw[:len("\n".join(lines[:3]).encode()) + 1]
    return Note(origin, decimal(size, "the note's size"), decoded(root, 32, "the note's root"), text, signatures, raw)


def proof(raw):
    """The proof in a text of the form c2sp.org/tlog-proof@v1."""
    try:
        lines = raw.decode().split("\n")
    except UnicodeDecodeError:
        raise Defect("the proof is not UTF-8") from None
    need(lines.pop(0) == "c2sp.org/tlog-proof@v1", "it is no c2sp.org/tlog-proof@v1")
    if lines and lines[0].startswith("extra "):
        decoded(lines.pop(0)[len("extra "):], None, "extra")
    need(lines and lines[0].startswith("index "), "the proof has no index")
    index = decimal(lines.pop(0)[len("index "):], "the proof's index")
    need("" in lines, "the proof has no empty line before its checkpoint")
    end = lines.index("")
    path = [decoded(line, 32, "a hash of the proof") for line in lines[:end]]
    return Proof(index, path, note("\n".join(lines[end + 1:]).encode()))
