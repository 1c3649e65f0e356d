#!/usr/bin/env python3
"""The checker finds what it has to: journals forged by docs/journal.md, good and bad."""
import base64
import contextlib
import hashlib
import io
import json
import struct
import tempfile
import zlib
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from check import main, spki

CHAIN, SEGMENT_BYTES = bytes(range(16)), 4096
AUDIT, ALICE = ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())
DIGEST = hashlib.sha256(b"hello").digest()
REQUEST = {"algorithm": "ECDSA_SHA_256", "caller": "a", "input_digest": f"sha256:{DIGEST.hex()}",
           "mode": "normal", "request_id": "r-1", "signer_kid": "s"}
AUDIT_KEY = {"audit_key": base64.b64encode(spki(AUDIT.public_key())).decode(), "audit_kid": "audit"}
SIGNATURE = base64.b64encode(ALICE.sign(b"hello", ec.ECDSA(hashes.SHA256()))).decode()
SIGNED = REQUEST | {"intent": 3, "replayed": False, "signature": SIGNATURE,
                    "timing_us": {"queue": 1, "upstream": 2, "verify": 3}}
RECORDS = [
    ("init", AUDIT_KEY | {"by": "uid 0", "deployment": "d"}),
    ("start", AUDIT_KEY | {"cut_bytes": 0, "deployment": "d", "first_seq": 1, "open_intents": 0,
                           "sealed": [], "version": "1"}),
    ("intent", REQUEST), ("signed", SIGNED), ("intent", REQUEST | {"justification": "d\u00fc \u2028\x7f\n\x01"}),
    ("segment", {"oldest_open": 5}),
    ("failed", REQUEST | {"detail": "", "intent": 5, "reason": "upstream_timeout"}),
    ("withheld", {"detail": "", "reason": "frozen", "request_id": "r-1", "signed": 4, "signer_kid": "s"}),
    ("stop", {"reason": "SIGTERM"}),
]


def public(key, kid, purpose, algorithm):
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {"signer_kid": kid, "algorithm": algorithm, "purpose": purpose, "public_key_pem": pem.decode()}


def body(kind, data):
    value = {"type": kind, "at": "2026-11-24T02:22:12.123456Z", "data": data}
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def forge(bodies, chain=CHAIN):
    """Files by name; a body that says `segment` begins one. Also the hash of each record."""
    files, hashes_, before = {}, [], bytes(32)
    key = hashlib.sha256(spki(AUDIT.public_key())).digest()[:8]
    for seq, text in enumerate(bodies, 1):
        if seq == 1 or b'"type":"segment"' in text:
            rest = struct.pack("<16sQ32sQ", chain, seq, before, SEGMENT_BYTES).ljust(496, b"\0")
            name = f"{seq:020}.journal"
            files[name] = b"SIGNJRNL" + struct.pack("<II", 1, zlib.crc32(rest)) + rest
        covered = struct.pack("<QQ8s", seq, seq - 1, key) + text
        before = hashlib.sha256(b"signing-proxy journal v1\0" + chain + before + covered).digest()
        covered += before + AUDIT.sign(before)
        record = struct.pack("<II", len(text), zlib.crc32(covered)) + covered
        files[name] += record.ljust((len(record) + 7) // 8 * 8, b"\0")
        hashes_.append(before)
    return {name: data.ljust(SEGMENT_BYTES, b"\0") for name, data in files.items()}, hashes_


def bodies(**changed):
    """All records; `r5=(kind, data)` puts another in place of the fifth."""
    return [body(*changed.get(f"r{seq}", record)) for seq, record in enumerate(RECORDS, 1)]


def check(files, *arguments, received=None, more=()):
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        directory = scratch / "journal"
        directory.mkdir()
        for name, data in files.items():
            (directory / name).write_bytes(data)
        registry = [public(AUDIT, "audit", "audit", "ed25519"), public(ALICE, "s", "signing", "ecdsa-p256-sha256"), *more]
        (scratch / "signers.json").write_text(json.dumps({"signers": registry}))
        if received is not None:
            (scratch / "received").write_text(json.dumps(received) + "\n")
            arguments += ("--received", scratch / "received")
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            code = main([str(directory), "--registry", str(scratch / "signers.json"), *map(str, arguments)])
        return code, said.getvalue().strip()


def refused(files, what, *arguments, received=None, more=()):
    code, said = check(files, *arguments, received=received, more=more)
    assert code == 1 and what in said, f"wanted {what!r}, got {code}: {said}"


def the_page_and_the_checker_agree_on_a_good_journal():
    code, said = check(forge(bodies())[0] | {"next": b"no part of it"})
    assert code == 0 and json.loads(said)["records"] == 9 and json.loads(said)["open_intents"] == [], said


def session(**changed):
    """A journal of the emergency signer with one session; `r5={...}` changes the data of the fifth."""
    actor, key = {"actor": "service:signing-breakglass"}, {"emergency_kid": "e"}
    why = {"incident": "INC-1", "justification": "down"}
    request = why | key | {"callers": ["a"], "replaces": ["s"], "max_signatures": 2,
                           "nonce": base64.b64encode(bytes(16)).decode(),
                           "emergency_key_sha256": hashlib.sha256(spki(ALICE.public_key())).hexdigest()}
    document = json.dumps(request).encode()
    approved = [{"algorithm": "x", "fingerprint": f, "principal": p, "roles": []} for f, p in [("1", "a"), ("2", "b")]]
    activated = request | actor | {
        "approvals": [], "approved": approved, "approvers_sha256": "", "by": "uid 0", "claimed": [], "expires_at": "",
        "nonce": bytes(16).hex(), "outage_since": "", "proxy_head": "", "session": "x-1",
        "request_b64": base64.b64encode(document).decode(), "request_sha256": hashlib.sha256(document).hexdigest()}
    signed = actor | {"algorithm": "ECDSA_SHA_256", "caller": "a", "incident": "INC-1", "mode": "breakglass",
                      "input_digest": f"sha256:{DIGEST.hex()}", "proxy_head": "", "replaces": "s", "request_id": "r-1",
                      "session": "x-1", "session_justification": "down", "signature": SIGNATURE, "signer_kid": "e"}
    ended = actor | key | why | {"by": "uid 0", "destruction_due": "", "detail": "", "reason": "operator",
                                 "session": "x-1", "signatures": 2}
    records = [RECORDS[0], RECORDS[1], ("unlock", actor | {"by": "uid 0", "outcome": "used"}),
               ("session_activated", activated), ("emergency_signed", signed | {"remaining": 1}),
               ("emergency_signed", signed | {"remaining": 0}), ("session_ended", ended),
               ("key_destroyed", actor | key | {"by": "uid 0", "emergency_key_sha256": "", "overwritten": True, "reason": ""})]
    for name, change in changed.items():
        at = int(name[1:]) - 1
        records[at] = (records[at][0], records[at][1] | change) if isinstance(change, dict) else change
    # Twice 4096 bytes of one segment: the activation is long.
    global SEGMENT_BYTES
    before, SEGMENT_BYTES = SEGMENT_BYTES, 16384
    try:
        return forge([body(*record) for record in records])[0]
    finally:
        SEGMENT_BYTES = before


def a_session_is_followed_through():
    entry = public(ALICE, "e", "breakglass", "ecdsa-p256-sha256")
    code, said = check(session(), more=[entry])
    assert code == 0 and json.loads(said)["types"]["emergency_signed"] == 2, said
    unlock = ("unlock", {"actor": "service:signing-breakglass", "by": "uid 0", "outcome": "used"})
    for changed, what in [
        ({"r4": {"actor": "somebody"}}, "actor somebody"),
        ({"r4": {"nonce": "00"}}, "nonce is not the request's"),
        ({"r4": {"max_signatures": 3}}, "max_signatures is not the request's"),
        ({"r4": {"callers": ["a", "b"]}}, "callers are not the request's"),
        ({"r4": {"request_sha256": "00"}}, "request_sha256"),
        ({"r4": {"approved": []}}, "approved twice"),
        ({"r4": unlock}, "no session is in force"),
        ({"r5": {"session": "x-2"}}, "the session x-1 is in force"),
        ({"r5": {"caller": "b"}}, "out of scope"),
        ({"r5": {"replaces": "t"}}, "out of scope"),
        ({"r5": {"signer_kid": "s"}}, "another key than the session's"),
        ({"r5": {"signature": "AAAA"}}, "does not verify under e"),
        ({"r5": {"remaining": 2}}, "remaining 2 after 2"),
        ({"r6": {"remaining": 1}}, "remaining 1 after 1"),
        ({"r6": RECORDS[1], "r7": {"signatures": 1}}, "a run ended the session of an earlier one"),
        ({"r5": RECORDS[1]}, "no session is in force"),
        ({"r7": {"signatures": 1}}, "it made 2 signatures"),
        ({"r7": {"reason": "tired"}}, "reason tired"),
        ({"r7": unlock}, "a session uses it"),
        ({"r3": ("freeze", {"by": "", "reason": ""}), "r7": ("freeze", {"by": "", "reason": ""})}, "freeze in the session"),
    ]:
        refused(session(**changed), what, more=[entry])


def every_changed_byte_is_found():
    good = forge(bodies())[0]
    name = "00000000000000000001.journal"
    for at in range(0, SEGMENT_BYTES, 5):
        changed = bytearray(good[name])
        changed[at] ^= 1
        refused(good | {name: bytes(changed)}, name, "--allow-torn-tail")


def what_does_not_belong_is_found():
    good, _ = forge(bodies())
    first, second = sorted(good)
    refused({first: good[first], second: forge(bodies(), bytes(16))[0][second]}, "another chain")
    refused({first: good[first], second: good[second][:-8]}, "made with 4096")
    refused({first: good[first]} | {"00000000000000000007.journal": good[second]}, "begins with record 6")
    for changed, what in [
        ({"r4": ("signed", SIGNED | {"caller": "b"})}, "caller is not that of intent 3"),
        ({"r4": ("signed", SIGNED | {"input_digest": "sha256:" + "0" * 64})}, "input_digest is not"),
        ({"r4": ("signed", SIGNED | {"signature": "AAAA"})}, "does not verify under s"),
        ({"r4": ("signed", SIGNED | {"intent": 2})}, "intent 2 is none"),
        ({"r7": ("failed", REQUEST | {"detail": "", "intent": 3, "reason": "x"})}, "intent 3 is none"),
        ({"r6": ("segment", {})}, "oldest_open is 5"),
        ({"r9": ("stop", {"reason": "x", "more": 1})}, "unknown field"),
        ({"r9": ("stop", {})}, "lacks a field"),
        ({"r9": ("stop", {"reason": 1.5})}, "float"),
        ({"r9": ("end", {"reason": "x"})}, "type 'end'"),
        ({"r9": RECORDS[0]}, "init is record 1"),
    ]:
        refused(forge(bodies(**changed))[0], what)
    spaced = bodies()
    spaced[8] = spaced[8].replace(b":", b": ")
    refused(forge(spaced)[0], "not canonical")


def only_the_end_may_be_torn_and_only_when_that_is_said():
    good, _ = forge(bodies())
    first, second = sorted(good)
    end = len(good[second].rstrip(b"\0"))
    torn = {first: good[first], second: good[second][:end - 40].ljust(SEGMENT_BYTES, b"\0")}
    refused(torn, "record 9")
    code, said = check(torn, "--allow-torn-tail")
    assert code == 0 and json.loads(said)["records"] == 8 and json.loads(said)["torn_bytes"] > 0, said
    inside = bytearray(good[second])
    inside[600] ^= 1
    refused({first: good[first], second: bytes(inside)}, "from after it was on disk", "--allow-torn-tail")


def what_a_client_holds_has_to_be_there():
    kept = [body(*record) for record in RECORDS[:5]]
    files, hashes_ = forge(kept)
    receipt = {"chain": CHAIN.hex(), "seq": 4, "hash": hashes_[3].hex()}
    line = {"request_id": "r-1", "signer_kid": "s", "algorithm": "ECDSA_SHA_256", "receipt": receipt,
            "message_b64": base64.b64encode(b"hello").decode(), "signature_b64": SIGNATURE}
    code, said = check(files, received=line)
    assert code == 0 and json.loads(said)["received"] == 1 and json.loads(said)["open_intents"] == [5], said
    other = base64.b64encode(ALICE.sign(b"hello", ec.ECDSA(hashes.SHA256()))).decode()
    for changed, what in [
        ({"signature_b64": other}, "another signature"),
        ({"request_id": "r-2"}, "request_id r-1 is recorded"),
        ({"message_b64": ""}, "input_digest"),
        ({"receipt": receipt | {"seq": 3}}, "record 3 is not there"),
        ({"receipt": receipt | {"hash": "00" * 32}}, "another hash"),
        ({"receipt": receipt | {"chain": "00" * 16}}, "another chain"),
    ]:
        refused(files, what, received=line | changed)
    refused(forge(bodies())[0], "withheld by 8", received=line)


for test in [
    the_page_and_the_checker_agree_on_a_good_journal,
    a_session_is_followed_through,
    every_changed_byte_is_found,
    what_does_not_belong_is_found,
    only_the_end_may_be_torn_and_only_when_that_is_said,
    what_a_client_holds_has_to_be_there,
]:
    test()
print("ok")
