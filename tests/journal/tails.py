"""What stands behind the newest checkpoint, and every byte: torn or a defect, and never taken for whole."""
import itertools
import struct
import sys

import forge
from check import check_journal
from forge import AUDIT, SEGMENT_BYTES, body, origin_of
from harness import WRITES, Defect, journal, judged, known, refused


def every_changed_byte_is_found():
    """Also where the end may be torn."""
    files, keys = journal().files(), known()
    changes = 0
    for name, good in files.items():
        used = len(good.rstrip(b"\0"))
        for at in range(len(good)):
            ways = {good[at] ^ 1 << at % 8}
            if "--all" in sys.argv:
                ways |= {good[at] ^ 1 << bit for bit in range(8)} | {good[at] ^ 0xff, 0x20}
            if "--all" in sys.argv or at > used - 16:
                ways.add(0)
            for byte in ways - {good[at]}:
                changed = files | {name: good[:at] + bytes([byte]) + good[at + 1:]}
                assert judged(changed, keys) is None, f"{name}: byte {at} from {good[at]} to {byte}"
                changes += 1
    print(f"{changes} changed bytes of {sum(map(len, files.values()))}: each a defect")


def frames_of(data):
    """Where frames begin, and where the last one ends."""
    at = [4096]
    while word := struct.unpack_from("<I", data, at[-1])[0]:
        at.append(at[-1] + ((24 if word >> 31 else 16) + (word & 0x7fff_ffff) + 7) // 8 * 8)
    return at


def a_write_that_is_cut_off_anywhere_is_torn_or_a_defect():
    keys = known()
    torn = defects = 0
    for until in range(2, len(WRITES) + 1):
        made = journal(until=until)
        files, begin, name = made.files(), made.begins[-1], made.name
        good = files[name]
        before = sum(WRITES[:until - 1])
        for at in range(begin + 1, len(good.rstrip(b"\0"))):
            cut = files | {name: good[:at].ljust(len(good), b"\0")}
            said = judged(cut, keys)
            try:
                check_journal(cut, keys)
            except Defect:
                pass
            else:
                raise AssertionError(f"cut off at {at}, and whole")
            if said is None:
                # In a frame's first 16 bytes, or right before its last byte.
                frames = frames_of(good)
                behind = at - max(frame for frame in frames if frame <= at)
                last_bytes = {len(good[:frame].rstrip(b"\0")) - 1 for frame in frames}
                assert behind < 16 or at in last_bytes, f"cut off at {at}"
                defects += 1
            else:
                assert said["records"] == before and said["torn_bytes"] > 0, said
                torn += 1
    print(f"{torn + defects} cuts of the last write: {torn} torn, {defects} defects, none whole")


def sectors_that_are_missing_are_torn():
    """Two writes that nobody was told of, and each set of their sectors that came."""
    keys = known()
    made = journal(until=5, segment_bytes=12288)
    name, begin = made.name, len(made.parts[made.name])
    counts = {"torn": 0, "defects": 0}
    old = made.files()
    texts = [body("freeze", {"by": "a", "reason": "r" * length}) for length in (900, 30, 1700, 10, 1300)]
    made.write(texts[0], texts[1], texts[2], durable=8).write(texts[3], durable=8)
    new = made.files()
    end = len(made.parts[name])
    sectors = range(begin // 512, (end + 511) // 512)
    for came in itertools.product([False, True], repeat=len(sectors)):
        data = bytearray(new[name])
        for sector, is_there in zip(sectors, came):
            if not is_there:
                where = slice(sector * 512, sector * 512 + 512)
                data[where] = old[name][where]
        said = judged(new | {name: bytes(data)}, keys)
        if all(came):
            assert said["records"] == 12 and said["torn_bytes"] == 0, said
        elif not any(came):
            assert said["records"] == 8 and said["torn_bytes"] == 0, said
        elif said is None:
            counts["defects"] += 1
        else:
            assert said["torn_bytes"] > 0 and said["records"] in (8, 11), said
            counts["torn"] += 1
    assert counts["defects"] == 0, counts
    print(f"{counts['torn']} sets of missing sectors of {len(sectors)}: each torn")


def what_was_acknowledged_is_not_torn():
    """The last checkpoint says that the write before was on disk: none of its sectors may be missing."""
    made = journal(until=5, segment_bytes=12288)
    begin = len(made.parts[made.name])
    made.write(body("freeze", {"by": "a", "reason": "r" * 1400}))
    last = len(made.parts[made.name])
    made.write(body("stop", {"reason": "SIGTERM"}))
    files = made.files()
    for sector in range(begin // 512 + 1, last // 512):
        data = bytearray(files[made.name])
        data[sector * 512:sector * 512 + 512] = bytes(512)
        refused(files | {made.name: bytes(data)}, "says that 9 was on disk", "--allow-torn-tail")
        # Without that last write nobody knows of it: the state directory and receipts would.
        data[last:] = bytes(len(data) - last)
        assert judged(files | {made.name: bytes(data)}, known())["records"] == 8


def what_no_crash_leaves_is_a_defect():
    made = journal(until=5)
    files, name = made.files(), made.name
    end = len(made.parts[name])
    stop, other = body("stop", {"reason": "SIGTERM"}), forge.note(9, bytes(32), [AUDIT])
    foreign = forge.note(9, bytes(32), [AUDIT], origin_of(bytes(16)))
    sector = (end + 511) // 512 * 512
    whole = forge.record(9, stop)
    for junk, what in [
        (b"\7" * 700, "no frame begins there"),
        (b"A" * 700, "no frame begins there"),
        (b"\1", "it has no checksum"),
        (bytes(8) + b"A" * 40, "no frame begins there"),
        (whole[:60] + b"!" + whole[61:], "its CRC does not fit"),
        (whole + b"\1\0\0\0", "it has no checksum"),
        (forge.record(8, stop), "its number is 8"),
        (forge.record(10, stop), "its number is 10"),
        (forge.record(10, stop)[:50], "its number is 10"),
        (whole[:20] + b"A" + whole[21:50], "its body or note is none"),
        (forge.record(9, b"A" * 80)[:50], "its body or note is none"),
        (whole[:-1].rstrip(b"\0")[:-1], "only its last byte is missing"),
        (whole + forge.checkpoint(9, 8, other), "its root is not that of the records"),
        (whole + forge.checkpoint(9, 8, foreign), "of another log"),
        (whole + forge.checkpoint(9, 8, foreign)[:200], "its body or note is none"),
        (forge.checkpoint(8, 8, made.newest), "no record before it"),
        (forge.checkpoint(8, 8, made.newest)[:200], "a checkpoint without a record"),
        (whole + forge.checkpoint(9, 9, other)[:200], "it says that 9 was on disk"),
        (bytes([whole[0] ^ 128]) + whole[1:], "its CRC fits, if it ends"),
        # Behind a gap.
        (bytes(sector - end) + b"A" * 15, "less than 16 bytes alone came"),
        (bytes(sector - end) + b"A" * 30 + b"\1" * 30, "no rest of a frame"),
        (bytes(sector - end) + forge.record(8, stop), "a whole frame with the number 8"),
        (bytes(sector - end) + forge.record(8 + 4609, stop), "a whole frame with the number 4617"),
        (bytes(sector - end) + b"A" * 64 + forge.checkpoint(9, 9, other), "says that 9 was on disk"),
        (bytes(sector - end) + b"A" * 64 + forge.record(7, stop)[:60], "no rest of a frame"),
    ]:
        data = (made.parts[name] + junk).ljust(SEGMENT_BYTES, b"\0")
        refused(files | {name: data}, what, "--allow-torn-tail")
        refused(files | {name: data}, name)
    for junk in [
        whole,
        whole[:50],
        whole + forge.checkpoint(9, 8, forge.note(9, bytes(32), [AUDIT]))[:200],
        bytes(sector - end) + b"A" * 64 + forge.checkpoint(9, 8, other),
        bytes(sector - end) + b"A" * 64 + forge.record(8 + 4608, stop)[:60],
    ]:
        data = (made.parts[name] + junk).ljust(SEGMENT_BYTES, b"\0")
        said = judged(files | {name: data}, known())
        assert said and said["records"] == 8 and said["torn_bytes"] == len(junk.rstrip(b"\0")), (junk, said)
    # In a segment that is not the newest, nothing may be torn.
    all_of = journal().files()
    first = min(all_of)
    used = len(all_of[first].rstrip(b"\0"))
    cut = all_of[first][:used - 40].ljust(SEGMENT_BYTES, b"\0")
    refused(all_of | {first: cut}, "record 6 at byte", "--allow-torn-tail")
