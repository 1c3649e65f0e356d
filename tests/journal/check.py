#!/usr/bin/env python3
"""Checks a journal by docs/journal.md alone: shares no code with the product.

  check.py DIR --registry signers.json [--received FILE.jsonl] [--allow-torn-tail]

--received: what clients got, a JSON object a line: request_id, signer_kid, algorithm,
message_b64 or digest_hex, signature_b64, receipt {chain, seq, hash}. Each has to be in
the journal. --allow-torn-tail: a process was killed and none has started since.

Prints one line of JSON about the whole journal, or its first defect and exits 1.
Needs the package `cryptography`.
"""
import argparse
import base64
import hashlib
import json
import re
import struct
import sys
import zlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

HEADER, BODY_MAX, RECORD_MIN = 512, 32768, 128
AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
REQUEST = "algorithm caller input_digest mode request_id signer_kid"
# The table of the page: what each type's `data` has; a ? marks what may be absent.
FIELDS = {
    "init": "audit_key audit_kid by deployment replaces?",
    "start": "audit_key audit_kid cut_bytes cut_sha256? deployment first_seq frozen? open_intents sealed version",
    "stop": "reason",
    "segment": "oldest_open?",
    "intent": f"{REQUEST} justification? traceparent?",
    "signed": f"{REQUEST} incident? intent replayed session? signature signer_record? timing_us",
    "failed": f"{REQUEST} detail intent reason",
    "withheld": "detail reason request_id signed signer_kid",
    "gate": "detail from signer_kid to upstream?",
    "freeze": "by reason",
    "unfreeze": "by frozen_by reason",
    "unseal": "by reason sealed_for signer_kid?",
    "reload": "by generation",
    "drill": "by phase signer_kid slipped? time_to_recover_ms? time_to_refuse_ms?",
    "refusals": "over_s refused",
    "activation": "activated by detail emergency_kid? incident? reason session? signer_head? signer_instance?",
    "breakglass_ended": "by detail emergency_kid incident reason session signer_head?",
    "session_activated": "actor approvals approved approvers_sha256 by callers claimed emergency_key_sha256 emergency_kid"
    " expires_at incident justification max_signatures nonce outage_since proxy_head replaces request_b64 request_sha256 session",
    "session_refused": "actor approved by clause detail emergency_kid? incident? justification? proxy_head request_sha256 session?",
    "emergency_signed": "actor algorithm caller incident input_digest justification? mode proxy_head remaining replaces"
    " request_id session session_justification signature signer_kid",
    "emergency_refusals": "actor incident? justification? over_s refused session?",
    "session_ended": "actor by destruction_due detail emergency_kid incident justification reason session signatures",
    "destruction_overdue": "actor destruction_due emergency_kid",
    "key_destroyed": "actor by emergency_key_sha256 emergency_kid overwritten reason",
    "unlock": "actor by outcome",
}
NUMBERS = {"cut_bytes", "first_seq", "open_intents", "oldest_open", "intent", "signed", "generation", "over_s",
           "slipped", "time_to_recover_ms", "time_to_refuse_ms",
           "max_signatures", "remaining", "signatures"}
ENDS = {"expired", "quota_exhausted", "operator", "proxy_gone", "restarted", "journal"}


class Defect(Exception):
    pass


def need(holds, what):
    if not holds:
        raise Defect(what)


def spki(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def integer(text):
    need(len(text) < 20, "a number is too long")
    return int(text)


def no_float(text):
    raise Defect(f"the body has a float: {text}")


class Registry:
    def __init__(self, path):
        self.keys, self.audit, self.kids = {}, {}, {}
        for entry in json.loads(Path(path).read_text())["signers"]:
            key = serialization.load_pem_public_key(entry["public_key_pem"].encode())
            if entry.get("purpose", "signing") == "audit":
                name = hashlib.sha256(spki(key)).digest()[:8]
                self.audit[name], self.kids[name] = key, entry["signer_kid"]
            else:
                self.keys[entry["signer_kid"]] = key

    def verify(self, kid, algorithm, signature, message=None, digest=None):
        """Verifies under kid's key; Ed25519 over the message, all others over the digest."""
        need(kid in self.keys, f"signer {kid} is not in the registry")
        key = self.keys[kid]
        try:
            if algorithm == "ED25519_SHA_512":
                key.verify(signature, message)
                return
            hash_ = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}[algorithm[-3:]]()
            ready = utils.Prehashed(hash_)
            if algorithm.startswith("ECDSA_"):
                key.verify(signature, digest, ec.ECDSA(ready))
            elif algorithm.startswith("RSASSA_PSS_"):
                key.verify(signature, digest, padding.PSS(padding.MGF1(hash_), hash_.digest_size), ready)
            elif algorithm.startswith("RSASSA_PKCS1_"):
                key.verify(signature, digest, padding.PKCS1v15(), ready)
            else:
                raise Defect(f"unknown algorithm {algorithm}")
        except (InvalidSignature, ValueError, TypeError, AttributeError) as error:
            raise Defect(f"the signature does not verify under {kid} ({algorithm}): {error!r}") from None


class Journal:
    """Walks the records in order and holds what the next one is judged by."""

    def __init__(self, registry, torn_tail):
        self.registry, self.torn_tail = registry, torn_tail
        self.chain, self.hash, self.first, self.seq, self.durable = None, bytes(32), None, 0, 0
        self.session, self.nonces, self.destroyed, self.restarted = None, set(), set(), False
        self.open, self.signed, self.withheld, self.types, self.torn_bytes = {}, {}, {}, {}, 0

    def walk(self, directory):
        names = sorted(p for p in directory.iterdir() if re.fullmatch(r"\d{20}\.journal", p.name))
        need(names, f"{directory}: no segment")
        for path in names:
            last = path == names[-1]
            data = path.read_bytes()
            try:
                self.header(path, data, last)
                at = HEADER
                while at is not None:
                    at = self.record(data, at, last)
            except Defect as defect:
                raise Defect(f"{path.name}: {defect}") from None

    def header(self, path, data, last):
        need(len(data) >= HEADER, "shorter than a header")
        magic, version, crc, chain, first, before, size = struct.unpack_from("<8sII16sQ32sQ", data)
        need(magic == b"SIGNJRNL" and version == 1, "not a segment of version 1")
        need(crc == zlib.crc32(data[16:HEADER]), "the header's CRC does not fit")
        need(not any(data[80:HEADER]), "the header ends not in zeros")
        need(size == len(data), f"{len(data)} bytes, made with {size}")
        need(int(path.name[:20]) == first, f"the header says that it begins with record {first}")
        if self.chain is None:
            self.chain, self.first, self.seq, self.hash = chain, first, first - 1, before
            need(first > 0 and (first > 1 or before == bytes(32)), "record 1 has a record before it")
        need(chain == self.chain, "another chain")
        need(first == self.seq + 1, f"begins with record {first}, and {self.seq + 1} comes next")
        need(before == self.hash, f"its hash before is not that of record {self.seq}")
        need(data[HEADER:HEADER + 4] != bytes(4) or (last and self.torn_tail), "no record in it")

    def record(self, data, at, last):
        """Judges the record at that offset and returns the next one's; None at the end."""
        try:
            frame = self.frame(data, at)
        except Defect as defect:
            where = f"record {self.seq + 1} at byte {at}: {defect}"
            need(last and self.torn_tail, where)
            later = self.proof_of_more(data, at)
            need(later is None, f"{where}; and at byte {later} is a record from after it was on disk")
            self.torn_bytes = len(data.rstrip(b"\0")) - at
            return None
        if frame is None:
            return None
        body, key, durable, hash_, signature, end = frame
        self.seq += 1
        try:
            need(self.durable <= durable < self.seq, f"says that {durable} was on disk")
            need(key in self.registry.audit, f"audit key {key.hex()} is not in the registry")
            try:
                self.registry.audit[key].verify(signature, hash_)
            except InvalidSignature:
                raise Defect("its audit signature does not verify") from None
            self.durable, self.hash = durable, hash_
            self.judge(body, key, at == HEADER, hash_)
        except Defect as defect:
            raise Defect(f"record {self.seq} at byte {at}: {defect}") from None
        return end

    def frame(self, data, at):
        """The whole frame at that offset, linked to the one before; None if the records end."""
        need(not any(data[at:at + 4]) or at + RECORD_MIN < len(data), "no room for a record")
        length, crc = struct.unpack_from("<II", data, at) if at + 8 <= len(data) else (0, 0)
        if length == 0:
            need(not any(data[at:]), "the records end, and bytes follow that are not zero")
            return None
        need(length <= BODY_MAX, f"length {length}")
        end = at + (RECORD_MIN + length + 7) // 8 * 8
        need(end <= len(data), "it does not fit into the segment")
        need(crc == zlib.crc32(data[at + 8:at + RECORD_MIN + length]), "its CRC does not fit")
        need(not any(data[at + RECORD_MIN + length:end]), "its padding is not zeros")
        seq, durable, key = struct.unpack_from("<QQ8s", data, at + 8)
        need(seq == self.seq + 1, f"its number is {seq}")
        body, rest = data[at + 32:at + 32 + length], at + 32 + length
        said, signature = data[rest:rest + 32], data[rest + 32:rest + 96]
        link = b"signing-proxy journal v1\0" + self.chain + self.hash + data[at + 8:rest]
        need(said == hashlib.sha256(link).digest(), "its hash does not fit the chain")
        return body, key, durable, said, signature, end

    def proof_of_more(self, data, at):
        """A whole frame further on that says the one here was on disk: then it was not torn."""
        for later in range(at + 8, len(data) - RECORD_MIN, 8):
            length, crc, seq, durable = struct.unpack_from("<IIQQ", data, later)
            if 0 < length <= BODY_MAX and seq > self.seq + 1 and durable > self.seq:
                if crc == zlib.crc32(data[later + 8:later + RECORD_MIN + length]):
                    return later
        return None

    def judge(self, body, key, is_first_of_segment, hash_):
        try:
            text = body.decode()
            value = json.loads(text, parse_float=no_float, parse_int=integer, parse_constant=no_float)
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise Defect(f"its body is not JSON: {error}") from None
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        need(text == canonical, "its body is not canonical")
        need(isinstance(value, dict) and value.keys() == {"at", "data", "type"}, "its body is not at, data, type")
        kind, data = value["type"], value["data"]
        need(AT.fullmatch(value["at"]), f"at: {value['at']!r}")
        need(kind in FIELDS, f"type {kind!r}")
        allowed = FIELDS[kind].split()
        need(data.keys() <= {f.rstrip("?") for f in allowed}, f"{kind} has an unknown field: {sorted(data)}")
        need({f for f in allowed if f[-1] != "?"} <= data.keys(), f"{kind} lacks a field: {sorted(data)}")
        for name in NUMBERS & data.keys():
            need(type(data[name]) is int and data[name] >= 0, f"{name}: {data[name]!r}")
        need(DIGEST.fullmatch(data.get("input_digest", "sha256:" + "0" * 64)), "input_digest")
        need((kind == "init") == (self.seq == 1), "init is record 1, and nothing else is")
        if self.seq > 1 and self.seq != self.first:
            need((kind == "segment") == is_first_of_segment, f"{kind} here: segment begins every later segment, only")
        self.types[kind] = self.types.get(kind, 0) + 1
        if "actor" in FIELDS[kind].split():
            need(data["actor"] == "service:signing-breakglass", f"actor {data['actor']}")
        elif kind != "segment":
            # Only the end of a session that a killed run left may come between.
            need(self.session is None or kind in ("start", "stop"), f"{kind} in the session {self.session}")
        getattr(self, "on_" + kind, lambda *_: None)(data, key, hash_)

    def is_whole(self):
        return self.first == 1

    def on_init(self, data, key, _):
        need(base64.b64decode(data["audit_key"]) == spki(self.registry.audit[key]), "another audit_key signed it")
        need(data["audit_kid"] == self.registry.kids[key], f"audit_kid {data['audit_kid']} is not the registry's")

    def on_start(self, data, key, hash_):
        self.on_init(data, key, hash_)
        need((data["cut_bytes"] > 0) == ("cut_sha256" in data), "cut_bytes and cut_sha256")
        self.restarted = True
        if self.is_whole():
            need(data["open_intents"] == len(self.open), f"open_intents {data['open_intents']}: {sorted(self.open)}")

    def on_segment(self, data, *_):
        oldest = min(self.open, default=None)
        need(not self.is_whole() or data.get("oldest_open") == oldest, f"oldest_open is {oldest}")

    def on_intent(self, data, *_):
        self.open[self.seq] = data

    def on_failed(self, data, *_):
        self.outcome(data)

    def on_signed(self, data, _, hash_):
        self.outcome(data)
        signature = base64.b64decode(data["signature"], validate=True)
        if data["algorithm"] != "ED25519_SHA_512":
            digest = bytes.fromhex(data["input_digest"].split(":")[1])
            self.registry.verify(data["signer_kid"], data["algorithm"], signature, digest=digest)
        self.signed[self.seq] = (data, hash_, signature)

    def outcome(self, data):
        number = data["intent"]
        if number < self.first:
            return
        intent = self.open.pop(number, None)
        need(intent is not None, f"intent {number} is none, or had its outcome")
        for name in REQUEST.split():
            need(data[name] == intent[name], f"{name} is not that of intent {number}")

    def on_session_activated(self, data, *_):
        need(self.session is None, "a session is in force already")
        document = base64.b64decode(data["request_b64"], validate=True)
        need(hashlib.sha256(document).hexdigest() == data["request_sha256"], "request_sha256 is not the request's")
        request = json.loads(document)
        need(base64.b64decode(request["nonce"]).hex() == data["nonce"], "nonce is not the request's")
        need(data["nonce"] not in self.nonces, "its request was used before")
        need(data["emergency_kid"] not in self.destroyed, "its key was destroyed")
        key = self.registry.keys.get(data["emergency_kid"])
        need(key is not None, f"signer {data['emergency_kid']} is not in the registry")
        need(hashlib.sha256(spki(key)).hexdigest() == data["emergency_key_sha256"], "another key is registered")
        for name in ("callers", "replaces"):
            need(sorted(request[name]) == data[name], f"{name} are not the request's")
        for name in ("emergency_kid", "emergency_key_sha256", "incident", "justification", "max_signatures"):
            need(request[name] == data[name], f"{name} is not the request's")
        for name in ("principal", "fingerprint"):
            need(len({one[name] for one in data["approved"]}) == len(data["approved"]) >= 2, f"one {name} approved twice")
        self.nonces.add(data["nonce"])
        self.session, self.remaining, self.made, self.restarted = data, data["max_signatures"], 0, False

    def on_emergency_signed(self, data, _, hash_):
        session = self.session
        if session is None and not self.is_whole():
            return
        need(session is not None and not self.restarted, "no session is in force")
        need(data["session"] == session["session"], f"the session {session['session']} is in force")
        need(data["caller"] in session["callers"], "its caller is out of scope")
        need(data["replaces"] in session["replaces"], "it stands in for a signer that is out of scope")
        need(data["signer_kid"] == session["emergency_kid"], "another key than the session's")
        need(data["incident"] == session["incident"], "another incident than the session's")
        need(data["session_justification"] == session["justification"], "another justification than the session's")
        need(data["mode"] == "breakglass", f"mode {data['mode']}")
        need(0 <= data["remaining"] < self.remaining, f"remaining {data['remaining']} after {self.remaining}")
        self.remaining, self.made = data["remaining"], self.made + 1
        signature = base64.b64decode(data["signature"], validate=True)
        if data["algorithm"] != "ED25519_SHA_512":
            digest = bytes.fromhex(data["input_digest"].split(":")[1])
            self.registry.verify(data["signer_kid"], data["algorithm"], signature, digest=digest)
        self.signed[self.seq] = (data, hash_, signature)

    def on_session_ended(self, data, *_):
        need(data["reason"] in ENDS, f"reason {data['reason']}")
        if self.session is None and not self.is_whole():
            return
        need(self.session is not None, "no session is in force")
        need(data["session"] == self.session["session"], f"the session {self.session['session']} is in force")
        need(data["signatures"] == self.made, f"it made {self.made} signatures")
        need(not self.restarted or data["reason"] == "restarted", "a run ended the session of an earlier one")
        self.session = None

    def on_key_destroyed(self, data, *_):
        need(self.session is None or self.session["emergency_kid"] != data["emergency_kid"], "a session uses it")
        self.destroyed.add(data["emergency_kid"])

    def on_unlock(self, data, *_):
        need(data["outcome"] in ("brought", "used", "failed", "expired"), f"outcome {data['outcome']}")

    def on_withheld(self, data, *_):
        number = data["signed"]
        if number < self.first:
            return
        need(number in self.signed and number not in self.withheld, f"signed {number} is none, or was withheld")
        for name in ("request_id", "signer_kid"):
            need(data[name] == self.signed[number][0][name], f"{name} is not that of signed {number}")
        self.withheld[number] = self.seq

    def received(self, line):
        receipt, algorithm = line["receipt"], line["algorithm"]
        need(receipt["chain"] == self.chain.hex(), "another chain")
        need(receipt["seq"] in self.signed, f"record {receipt['seq']} is not there, or not signed")
        data, hash_, signature = self.signed[receipt["seq"]]
        need(receipt["seq"] not in self.withheld, f"it was withheld by {self.withheld.get(receipt['seq'])}")
        need(receipt["hash"] == hash_.hex(), "another hash")
        for name in ("request_id", "signer_kid", "algorithm"):
            need(line[name] == data[name], f"{name} {data[name]} is recorded")
        need(base64.b64decode(line["signature_b64"]) == signature, "another signature is recorded")
        message = base64.b64decode(line.get("message_b64", ""))
        digest = bytes.fromhex(line.get("digest_hex", ""))
        if algorithm == "ED25519_SHA_512":
            # It signs a digest as the message of 32 bytes that it is.
            message = digest or message
            said = "sha256:" + hashlib.sha256(message).hexdigest()
        else:
            name = "sha" + algorithm[-3:]
            digest = digest or hashlib.new(name, message).digest()
            said = f"{name}:{digest.hex()}"
        need(said == data["input_digest"], f"input_digest {data['input_digest']} is recorded")
        self.registry.verify(line["signer_kid"], algorithm, signature, message, digest)


def main(command_line=None):
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("directory", type=Path)
    arguments.add_argument("--registry", required=True)
    arguments.add_argument("--received", type=Path)
    arguments.add_argument("--allow-torn-tail", action="store_true")
    given = arguments.parse_args(command_line)
    journal, received = Journal(Registry(given.registry), given.allow_torn_tail), 0
    try:
        journal.walk(given.directory)
        for line in given.received.read_text().splitlines() if given.received else []:
            got = json.loads(line)
            try:
                journal.received(got)
            except Defect as defect:
                raise Defect(f"received {got['request_id']} with {got['receipt']}: {defect}") from None
            received += 1
    except Defect as defect:
        print(defect)
        return 1
    print(json.dumps({
        "ok": True, "records": sum(journal.types.values()), "received": received,
        "head": f"{journal.chain.hex()}:{journal.seq}:{journal.hash.hex()}",
        "types": journal.types, "open_intents": sorted(journal.open), "torn_bytes": journal.torn_bytes,
    }))
    return 0


if __name__ == "__main__":
    sys.exit(main())
