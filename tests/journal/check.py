#!/usr/bin/env python3
"""Checks a journal by docs/reference/journal.md alone: shares no code with the product.

  check.py DIR [--registry signers.json] [--received FILE.jsonl] [--allow-torn-tail]
  check.py --proof FILE --record FILE --registry signers.json [--receipt FILE.json]
  check.py --tiles DIR --registry signers.json

Without --registry the audit keys are those that the journal names itself, and the signatures
that callers got are not checked.
--received: what clients got, a JSON object a line: request_id, signer_kid, algorithm,
message_b64 or digest_hex, signature_b64, receipt {log, seq, leaf}. Each has to be in
the journal. --allow-torn-tail: a process was killed and none has started since, so the newest
segment may end in a torn write; anything else there is a defect.
--proof, a c2sp.org/tlog-proof@v1, shows without a journal that the record, the bytes of a body, is
in a log. --receipt {log, seq, leaf} has to be of that record.

Prints one line of JSON about the whole journal (`head` is log:size:root), or its first defect and
exits 1. Needs the package `cryptography`.
"""
import argparse
import json
import re
import sys
from pathlib import Path

import frames
import tree
from keys import AuditKeys, Registry, named_key
from records import Records
from tiles import check_tiles
from tree import Defect, leaf_of, need


class Journal:
    """Walks the segments in order. `files` is their content by name."""

    def __init__(self, files, registry, allow_torn_tail):
        self.files = {name: files[name] for name in sorted(files) if re.fullmatch(r"\d{20}\.journal", name)}
        self.registry, self.allow_torn_tail = registry or Registry(named=self.named()), allow_torn_tail
        self.origin, self.tree, self.newest, self.keys, self.records = None, None, None, None, None
        self.durable, self.torn_bytes = 0, 0

    def named(self):
        """The audit keys that the journal names itself, as far as it can be read."""
        for data in self.files.values():
            at = frames.HEADER
            try:
                while frame := frames.frame(data, at):
                    at = frame.end
                    if frame.is_record and (key := named_key(frame.text)):
                        yield key
            except Defect:
                continue

    def walk(self):
        need(self.files, "no segment")
        for name, data in self.files.items():
            try:
                self.header(name, data)
                self.frames(data, is_newest=name == max(self.files))
            except Defect as defect:
                raise Defect(f"{name}: {defect}") from None

    def header(self, name, data):
        header = frames.header(data)
        need(int(name[:20]) == header.first, f"the header says that it begins with record {header.first}")
        if self.tree is None:
            self.origin, self.tree, self.newest = header.note.origin, header.tree, header.note
            self.keys = AuditKeys(self.registry, self.origin)
            self.keys.take(header.note)
            self.records = Records(self.registry, header.first, self.keys.signer)
            return
        need(header.note.origin == self.origin, "another log")
        need(header.first == self.tree.size + 1, f"begins with record {header.first}, and {self.tree.size + 1} comes next")
        need(header.note.raw == self.newest.raw, "its checkpoint is not the last one of the segment before")

    def frames(self, data, is_newest):
        at = end = frames.HEADER
        waiting, defect = [], None
        try:
            while frame := frames.frame(data, at):
                if frame.is_record:
                    number = self.tree.size + len(waiting) + 1
                    need(frame.number == number, f"its number is {frame.number}")
                    waiting.append(frame)
                at = frame.end
                if not frame.is_record:
                    # Whole and where it is due: from here on, nothing is a torn write.
                    self.checkpoint(frame, waiting)
                    waiting, end = [], at
        except Covered:
            raise
        except Defect as found:
            defect = str(found)
        if defect is None and not waiting and end > frames.HEADER:
            return
        number = self.tree.size + len(waiting) + 1
        what = defect or ("no checkpoint covers the records before it" if waiting else "no record in the segment")
        where = f"record {number} at byte {at}: {what}"
        need(is_newest and self.allow_torn_tail, where)
        try:
            self.torn_bytes = frames.Tail(data, end, self.tree.size, self.origin).torn_bytes()
        except Defect as found:
            raise Defect(f"{where}; and it is no torn write: {found}") from None

    def checkpoint(self, frame, waiting):
        try:
            need(waiting, "no record before it")
            before = self.tree.size
            leaves = [leaf_of(record.text) for record in waiting]
            for leaf in leaves:
                self.tree.add(leaf)
            note = tree.note(frame.text)
            need(note.origin == self.origin, "of another log")
            need(frame.number == note.size == self.tree.size, f"of size {frame.number}, in its note {note.size}, behind record {self.tree.size}")
            need(note.root == self.tree.root(), "its root is not that of the records")
            need(self.durable <= frame.durable <= before, f"says that {frame.durable} was on disk, {before} records were written before")
            self.keys.take(note)
        except Defect as defect:
            raise Covered(f"the checkpoint at byte {frame.at}: {defect}") from None
        self.durable, self.newest = frame.durable, note
        for record, leaf in zip(waiting, leaves):
            try:
                self.records.judge(record.number, record.text, record.at == frames.HEADER, leaf)
            except (Defect, KeyError, TypeError, ValueError) as defect:
                raise Covered(f"record {record.number} at byte {record.at}: {defect!s}") from None

    def head(self):
        return f"{self.origin.split('/')[1]}:{self.tree.size}:{self.tree.root().hex()}"


class Covered(Defect):
    """A defect of what a checkpoint covers: no crash leaves it."""


def check_journal(files, registry, received=(), allow_torn_tail=False):
    """What there is to say about a whole journal."""
    journal = Journal(files, registry, allow_torn_tail)
    journal.walk()
    for got in received:
        try:
            journal.records.received(got, journal.origin)
        except Defect as defect:
            raise Defect(f"received {got['request_id']} with {got['receipt']}: {defect}") from None
    records = journal.records
    return {
        "ok": True, "records": sum(records.types.values()), "received": len(received),
        "head": journal.head(), "types": records.types, "open_intents": sorted(records.open),
        "torn_bytes": journal.torn_bytes,
    }


def check_proof(proof, record, registry, receipt=None):
    """What a proof shows of a record."""
    proof, leaf = tree.proof(proof), leaf_of(record)
    note = proof.note
    AuditKeys(registry, note.origin).verify(note)
    need(tree.root_of(leaf, proof.index, note.size, proof.path) == note.root, "the record is not in the tree of the checkpoint at that index")
    shown = {"log": note.origin, "seq": proof.index + 1, "leaf": leaf.hex()}
    for name in shown if receipt else ():
        need(receipt.get(name) == shown[name], f"the receipt's {name} is {receipt.get(name)!r}, and {shown[name]!r} is proved")
    return {"ok": True, **shown, "size": note.size, "root": note.root.hex()}


def main(command_line=None):
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("directory", type=Path, nargs="?")
    arguments.add_argument("--registry")
    arguments.add_argument("--received", type=Path)
    arguments.add_argument("--allow-torn-tail", action="store_true")
    arguments.add_argument("--tiles", type=Path)
    arguments.add_argument("--proof", type=Path)
    arguments.add_argument("--record", type=Path)
    arguments.add_argument("--receipt", type=Path)
    given = arguments.parse_args(command_line)
    if sum(way is not None for way in (given.directory, given.proof, given.tiles)) != 1:
        arguments.error("give the directory of a journal, or --proof, or --tiles")
    if given.tiles and not given.registry:
        arguments.error("--tiles needs --registry")
    if given.proof and not (given.record and given.registry):
        arguments.error("--proof needs --record and --registry")
    registry = Registry(given.registry) if given.registry else None
    try:
        if given.tiles:
            said = check_tiles(given.tiles, lambda origin: AuditKeys(registry, origin))
        elif given.proof:
            receipt = json.loads(given.receipt.read_text()) if given.receipt else None
            said = check_proof(given.proof.read_bytes(), given.record.read_bytes(), registry, receipt)
        else:
            files = {path.name: path.read_bytes() for path in given.directory.iterdir() if path.suffix == ".journal"}
            lines = given.received.read_text().splitlines() if given.received else ()
            said = check_journal(files, registry, [json.loads(line) for line in lines], given.allow_torn_tail)
    except Defect as defect:
        print(defect)
        return 1
    print(json.dumps(said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
