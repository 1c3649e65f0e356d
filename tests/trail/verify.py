#!/usr/bin/env python3
"""Verifies rows of audit_events, written from docs/reference/trail.md and docs/reference/journal.md alone.

    verify.py ROWS.jsonl... SIGNERS.json

ROWS.jsonl has one JSON object for each row of the trail's own table, in the order of created_at, with a member
for each column. Prints the first defect, or how many rows are as they should be: one line for each file, each
of which is a table by itself. Exits 1 if there is a defect in any.
"""
import base64
import hashlib
import json
import sys
import uuid
from datetime import datetime, timezone

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
REPLACED = "<>&\u2028\u2029\0"


class Defect(Exception):
    pass


def need(is_so, what):
    if not is_so:
        raise Defect(what)


def canonical(value):
    """JSON as JSON.stringify prints it, keys sorted by UTF-16 code unit."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        need(abs(value) < 2**53, "a number is too large")
        return str(value)
    if isinstance(value, str):
        return '"' + "".join(ESCAPES.get(c) or (f"\\u{ord(c):04x}" if c < " " else c) for c in value) + '"'
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    need(isinstance(value, dict), "a payload holds something else than JSON without floats")
    members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be"))
    return "{" + ",".join(canonical(key) + ":" + canonical(inner) for key, inner in members) + "}"


def shippable(value):
    """What a record's data becomes in a payload."""
    if isinstance(value, str):
        return "".join(f"\\u{ord(c):04x}" if c in REPLACED else c for c in value)
    if isinstance(value, list):
        return [shippable(inner) for inner in value]
    if isinstance(value, dict):
        return {shippable(key): shippable(inner) for key, inner in value.items()}
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**53:
        return str(value)
    return value


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def root_of(index, size, leaf, path):
    """The root that an inclusion path leads to (RFC 9162, section 2.1.3.2)."""
    need(index < size, "its proof's index is beyond its checkpoint")
    first, last, root = index, size - 1, leaf
    for sibling in path:
        need(last != 0, "its proof is too long")
        if first & 1 or first == last:
            root = node(sibling, root)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            root = node(root, sibling)
        first, last = first >> 1, last >> 1
    need(last == 0, "its proof is too short")
    return root


class Verifier:
    def __init__(self, registry):
        self.audit = {}
        for entry in registry["signers"]:
            if entry.get("purpose") == "audit":
                self.audit[entry["signer_kid"]] = serialization.load_pem_public_key(entry["public_key_pem"].encode())
        self.prev, self.newest, self.covered, self.seqs = None, None, {}, {}

    def row(self, row):
        payload = row["payload"]
        text = canonical(payload)
        prev = b"" if self.prev is None else self.prev
        need(row["prev_hash"] == (None if self.prev is None else self.prev.hex()), "it is not linked to the row before it")
        digest = hashlib.sha256(text.encode() + prev).digest()
        need(row["hash"] == digest.hex(), "its hash is of something else")
        need(row["signer_kid"] == row["signer_id"], "its signers differ")
        need(row["signer_kid"] in self.audit, "its signer is no audit key")
        key = self.audit[row["signer_kid"]]
        need(isinstance(key, ed25519.Ed25519PublicKey), "its signer is no Ed25519 key")
        try:
            key.verify(base64.b64decode(row["signature"], validate=True), digest)
        except (InvalidSignature, ValueError) as error:
            raise Defect("its signature does not verify") from error
        for column in ("id", "actor_id", "event_type"):
            need(row[column] == payload[column], f"its column {column} differs from its payload")
        for column in ("created_at", "ts"):
            at = datetime.fromisoformat(row[column]).astimezone(timezone.utc)
            need(at.strftime("%Y-%m-%dT%H:%M:%S.%fZ") == payload["created_at"], f"its column {column} differs from its payload")
        need(self.newest is None or payload["created_at"] > self.newest, "its time is not after the one before")
        self.newest, self.prev = payload["created_at"], digest
        log = payload["log"]
        if payload["event_type"] == "signing.checkpoint":
            size, _ = self.checkpoint(payload["checkpoint"], log)
            need(size == payload["last"], "its checkpoint is of another size")
            self.cover(log, payload)
            name = f"checkpoint {size}"
        elif payload["event_type"] == "signing.trail.gap":
            self.cover(log, payload)
            name = f"gap {payload['first']}-{payload['last']}"
        else:
            self.record(payload, log)
            name = str(payload["seq"])
        space = uuid.UUID(hex=log.removeprefix("signing-journal/"))
        need(payload["id"] == str(uuid.uuid5(space, name)), "its id is not made of its log and record")

    def cover(self, log, payload):
        need(payload["first"] == self.covered.get(log, 0) + 1 <= payload["last"], "records before it are covered by no row")
        self.covered[log] = payload["last"]

    def checkpoint(self, note, log):
        text, _, signatures = note.partition("\n\n")
        text += "\n"
        origin, size, root = text.splitlines()
        need(origin == log, "its checkpoint is of another log")
        lines = signatures.splitlines()
        need(lines, "its checkpoint is not signed")
        for line in lines:
            dash, name, blob = line.split(" ")
            need((dash, name) == ("\u2014", origin), "its checkpoint has another signature")
            blob = base64.b64decode(blob, validate=True)
            need(any(self.signed(key, origin, blob, text.encode()) for key in self.audit.values()),
                 "its checkpoint is not by an audit key")
        return int(size), base64.b64decode(root, validate=True)

    @staticmethod
    def signed(key, origin, blob, text):
        raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        if hashlib.sha256(origin.encode() + b"\n\1" + raw).digest()[:4] != blob[:4]:
            return False
        try:
            key.verify(blob[4:], text)
        except InvalidSignature:
            return False
        return True

    def record(self, payload, log):
        body = base64.b64decode(payload["record"], validate=True)
        leaf = hashlib.sha256(b"\0" + body).digest()
        need(payload["leaf"] == leaf.hex(), "its leaf is not its record's")
        seq = payload["seq"]
        need(seq > self.seqs.get(log, 0), "its record has a row twice, or out of order")
        self.seqs[log] = seq
        proof, _, note = payload["proof"].partition("\n\n")
        title, index, *path = proof.splitlines()
        need((title, index) == ("c2sp.org/tlog-proof@v1", f"index {seq - 1}"), "its proof is of another record")
        size, root = self.checkpoint(note, log)
        path = [base64.b64decode(line, validate=True) for line in path]
        need(root_of(seq - 1, size, leaf, path) == root, "its proof leads elsewhere")
        record = json.loads(body)
        need(payload["data"] == shippable(record["data"]), "its data is not its record's")
        need((payload["recorded_at"], payload["record_type"]) == (record["at"], record["type"]), "its record says otherwise")


def said_of(rows, registry):
    """What is said of a file, and whether that is good."""
    verifier, count = Verifier(registry), 0
    with open(rows, encoding="utf-8") as file:
        for line in filter(str.strip, file):
            count += 1
            row = json.loads(line)
            try:
                verifier.row(row)
            except (Defect, KeyError, ValueError, TypeError, AttributeError) as error:
                return f"DEFECT: row {row.get('id')}: {error!r}", False
    return f"{count} rows", True


def main():
    *tables, registry = sys.argv[1:]
    with open(registry, encoding="utf-8") as file:
        registry = json.load(file)
    said = [said_of(rows, registry) for rows in tables]
    for line, _ in said:
        print(line)
    return 0 if all(is_good for _, is_good in said) else 1


if __name__ == "__main__":
    sys.exit(main())
