"""A log in tiles, by docs/reference/journal.md ("Reading it") and c2sp.org/tlog-tiles."""
import re
from pathlib import Path

from tree import Tree, leaf_of, need, note

PATH = re.compile(r"tile/(entries|0|[1-9]\d?)/((?:x\d{3}/)*\d{3})(?:\.p/([1-9]\d{0,2}))?")
WIDTH = 256


def check_tiles(directory, keys):
    """What there is to say of a directory that holds a whole log. `keys` gives the audit keys of an origin."""
    files = {str(path.relative_to(directory)): path for path in sorted(Path(directory).rglob("*")) if not path.is_dir()}
    need("checkpoint" in files, "there is no checkpoint")
    checkpoint = note(files.pop("checkpoint").read_bytes())
    keys(checkpoint.origin).verify(checkpoint)
    level, tree = [], Tree()
    for number, width in tiles_of(checkpoint.size):
        for entry in entries(take(files, "entries", number, width), width, number):
            level.append(leaf_of(entry))
            tree.add(level[-1])
    at = 0
    while level:
        for number, width in tiles_of(len(level)):
            expected = b"".join(level[number * WIDTH:number * WIDTH + width])
            need(take(files, str(at), number, width) == expected, f"{path_of(str(at), number, width)}: not the hashes of the records")
        full = len(level) // WIDTH
        level = [root_of(level[number * WIDTH:(number + 1) * WIDTH]) for number in range(full)]
        at += 1
    need(tree.root() == checkpoint.root, "the records do not give the checkpoint's root")
    need(not files, f"files that no log of this size has: {', '.join(files)}")
    return {"ok": True, "log": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.hex()}


def tiles_of(count):
    """The number and width of each tile over so many hashes."""
    yield from ((number, WIDTH) for number in range(count // WIDTH))
    if count % WIDTH:
        yield count // WIDTH, count % WIDTH


def root_of(hashes):
    tree = Tree()
    for hash_ in hashes:
        tree.add(hash_)
    return tree.root()


def path_of(level, number, width):
    digits = f"{number:03}"
    digits = "0" * (-len(digits) % 3) + digits
    parts = [digits[at:at + 3] for at in range(0, len(digits), 3)]
    name = "/".join([f"x{part}" for part in parts[:-1]] + parts[-1:])
    return f"tile/{level}/{name}" + (f".p/{width}" if width < WIDTH else "")


def take(files, level, number, width):
    path = path_of(level, number, width)
    need(path in files and PATH.fullmatch(path), f"{path} is missing")
    return files.pop(path).read_bytes()


def entries(bundle, width, number):
    where, at = path_of("entries", number, width), 0
    for _ in range(width):
        need(at + 2 <= len(bundle), f"{where}: too few entries")
        length = int.from_bytes(bundle[at:at + 2], "big")
        need(at + 2 + length <= len(bundle), f"{where}: an entry is cut off")
        yield bundle[at + 2:at + 2 + length]
        at += 2 + length
    need(at == len(bundle), f"{where}: too many entries")
