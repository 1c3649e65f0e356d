#!/usr/bin/env python3
"""The checker finds what it has to: journals forged by docs/reference/journal.md, good and bad.

  check_test.py [--all]     --all: each byte changed in ten ways, and not in one
"""
import base64
import hashlib
import json
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

import forge
import tails
from check import Defect, check_journal
from forge import AUDIT, LOG, SEGMENT_BYTES, Forge, body, leaf, origin_of
from harness import (ALICE, DIGEST, NEXT, RECORDS, REQUEST, SIGNATURE, SIGNED, bodies, check, journal, judged, known,
                     public, refused, registry, run)
from keys import spki


FROZEN = {"freeze": {"at": "2026-11-24T02:22:12.123456Z", "by": "a", "reason": "r"}, "seals": []}


def the_page_and_the_checker_agree_on_a_good_journal():
    made = journal()
    code, said = check(made.files() | {"next": b"no part of it"})
    assert code == 0 and json.loads(said)["records"] == 9 and json.loads(said)["open_intents"] == [], said
    assert json.loads(said)["head"] == f"{LOG.hex()}:9:{forge.head(made.leaves).hex()}", said
    assert check_journal(made.files(), None)["records"] == 9
    # Of many records, each written alone, over several segments.
    long = Forge().write(*bodies()[:2])
    for number in range(3, 90):
        long.write(body("freeze", {"by": "a", "reason": "r"}) if number % 6 else body("segment", FROZEN))
    assert check_journal(long.files(), known())["records"] == 89


def a_segment_begins_with_what_is_in_force():
    sealed = body("gate", {"detail": "d", "from": "open", "signer_kid": "s", "to": "sealed"})
    frozen, unfrozen = body("freeze", {"by": "a", "reason": "r"}), body("unfreeze", {"by": "b", "frozen_by": "a", "frozen_for": "r", "reason": "s"})
    unsealed = body("unseal", {"by": "b", "reason": "r", "sealed_for": "d", "signer_kid": "s"})
    start = body("start", RECORDS[1][1] | FROZEN)
    seals = [{"at": FROZEN["freeze"]["at"], "detail": "d", "signer_kid": "s"}]

    def journal_of(records, told):
        return Forge().write(*bodies()[:2]).write(*records).write(body("segment", told)).files()

    for records, told, what in [
        ([], {"seals": []}, None),
        ([frozen], FROZEN, None),
        ([start], FROZEN, None),
        ([start, unfrozen], {"seals": []}, None),
        ([frozen, sealed], FROZEN | {"seals": seals}, None),
        ([sealed, unsealed], {"seals": []}, None),
        ([], FROZEN, "the freeze in force is None"),
        ([frozen], {"seals": []}, "the freeze in force is {"),
        ([frozen, unfrozen], FROZEN, "the freeze in force is None"),
        ([sealed], {"seals": []}, "the seals in force are {"),
        ([], {"seals": seals}, "the seals in force are {"),
        ([sealed], {"seals": seals * 2}, "seals of"),
        ([frozen, body(*RECORDS[1])], {"seals": []}, "the freeze has no end"),
        ([sealed, body(*RECORDS[1])], {"seals": []}, "seals without an end"),
    ]:
        if what is None:
            assert check_journal(journal_of(records, told), known())
        else:
            refused(journal_of(records, told), what)


def the_oldest_segments_may_be_moved_away():
    files = journal().files()
    second = max(files)
    code, said = check({second: files[second]})
    assert code == 0 and json.loads(said)["records"] == 4, said
    try:
        check_journal({second: files[second]}, None)
    except Defect as defect:
        assert "is not known" in str(defect), defect
    else:
        raise AssertionError("a key that nobody named was taken")


def calls_are_those_of_their_intent():
    to = {"region": "r", "upstream": "aws-kms"}
    intent, order = REQUEST | to | {"attempt": "0a" * 16}, "0a" * 16
    first = to | {"attempt": f"{order}-1", "reason": "unavailable"}
    signed = SIGNED | to | {"attempt": f"{order}-2", "earlier_attempts": [first], "replayed": False,
                            "upstream_request_id": "u-1"}
    failed = REQUEST | to | {"attempt": order, "detail": "", "intent": 5, "reason": "indeterminate"}
    call = to | {"attempt": f"{order}-1", "operation": "Sign", "outcome": "signed",
                   "purpose": "canary", "signer_kid": "s"}
    probes = {"calls": [call, call | {"upstream_request_id": "u-2"}], "over_s": 10}

    def files(signed=signed, probes=probes, intent=intent):
        records = [*RECORDS[:2], ("intent", intent), ("signed", signed), ("intent", intent), ("failed", failed),
                   ("probes", probes), RECORDS[8]]
        return Forge(segment_bytes=16384).write(*(body(*record) for record in records)).files()

    code, said = check(files())
    assert code == 0 and json.loads(said)["types"]["probes"] == 1, said
    refused(files(signed=signed | {"attempt": f"{order}-3"}), "attempts")
    refused(files(signed=signed | {"earlier_attempts": []}), "attempts")
    refused(files(signed=signed | {"earlier_attempts": [first | {"more": 1}]}), "a call has an unknown field")
    refused(files(signed=signed | {"attempt": order, "earlier_attempts": []}), "attempts")
    refused(files(signed=signed | {"upstream_request_id": "u 1"}), "upstream_request_id")
    refused(files(signed=SIGNED | {"replayed": False}), "signed without an attempt")
    refused(files(signed=signed | {"door": "local:x"}), "door is not that of intent")
    refused(files(intent=REQUEST | {"attempt": order}), "attempt and upstream")
    refused(files(intent=intent | {"door": "window"}), "door window")
    refused(files(probes=probes | {"calls": [call | {"purpose": "fun"}]}), "purpose fun")
    refused(files(probes=probes | {"calls": [{"attempt": "x"}]}), "a call lacks a field")


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
    # The activation is long.
    return Forge(segment_bytes=16384).write(*(body(*record) for record in records)).files()


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


def what_does_not_belong_is_found():
    good = journal().files()
    first, second = sorted(good)
    refused({first: good[first], second: journal(log=bytes(16)).files()[second]}, "another log")
    refused({first: good[first], second: good[second][:-8]}, f"made with {SEGMENT_BYTES}")
    refused({first: good[first]} | {"00000000000000000007.journal": good[second]}, "begins with record 6")
    for changed, what in [
        ({"r4": ("signed", SIGNED | {"caller": "b"})}, "caller is not that of intent 3"),
        ({"r4": ("signed", SIGNED | {"input_digest": "sha256:" + "0" * 64})}, "input_digest is not"),
        ({"r4": ("signed", SIGNED | {"signature": "AAAA"})}, "does not verify under s"),
        ({"r4": ("signed", SIGNED | {"intent": 2})}, "intent 2 is none"),
        ({"r4": ("signed", SIGNED | {"signer_record": "x:1:y"})}, "signer_record"),
        ({"r1": ("init", RECORDS[0][1] | {"replaces": f"{LOG.hex()}:1"})}, "replaces"),
        ({"r7": ("failed", REQUEST | {"detail": "", "intent": 3, "reason": "x"})}, "intent 3 is none"),
        ({"r6": ("segment", {"seals": []})}, "oldest_open is 5"),
        ({"r9": ("stop", {"reason": "x", "more": 1})}, "unknown field"),
        ({"r9": ("stop", {})}, "lacks a field"),
        ({"r9": ("stop", {"reason": 1.5})}, "float"),
        ({"r9": ("end", {"reason": "x"})}, "type 'end'"),
        ({"r9": RECORDS[0]}, "init is record 1"),
    ]:
        refused(journal(bodies(**changed)).files(), what)
    spaced = bodies()
    spaced[8] = spaced[8].replace(b":", b": ")
    refused(journal(spaced).files(), "not canonical")


def a_header_goes_on_from_the_segment_before():
    texts = bodies()
    refused(Forge(version=1).write(*texts[:2]).files(), "version 1")
    refused(Forge(text=forge.note(0, bytes(32), [AUDIT])).write(*texts[:2]).files(), "does not hash to the checkpoint's root")
    refused(Forge(text=forge.note(0, forge.head([]), [NEXT])).write(*texts[:2]).files(), "is not known")
    refused(Forge(text=forge.note(0, forge.head([]), [AUDIT, NEXT])).write(*texts[:2]).files(), "has two signatures")
    refused(Forge(hashes=[bytes(32)]).write(*texts[:2]).files(), "are no frontier of 0 leaves")

    def second(**changed):
        made = journal(until=3)
        made.segment(**changed(made) if callable(changed) else changed)
        made.parts[made.name] += forge.record(6, texts[5])
        made.leaves.append(leaf(texts[5]))
        made.parts[made.name] += forge.checkpoint(6, 5, forge.note(6, forge.head(made.leaves), [AUDIT]))
        return made.files()

    assert check_journal(second(), known())["records"] == 6
    leaves = journal(until=3).leaves
    refused(second(hashes=[leaves[0], leaves[1]]), "does not hash to the checkpoint's root")
    refused(second(hashes=[]), "are no frontier of 5 leaves")
    refused(second(text=forge.note(4, forge.head(leaves), [AUDIT])), "is of size 4")
    refused(second(text=forge.note(5, forge.head(leaves), [NEXT])), "not the last one of the segment before")
    refused(second(text=forge.note(5, forge.head(leaves), [AUDIT], origin_of(bytes(16)))), "of another log")
    refused(second(log=bytes(16)), "of another log")
    # Another history, all of it well signed.
    other = Forge().write(*texts[:2]).write(*texts[2:4]).write(body("freeze", {"by": "", "reason": ""}))
    files = second(text=other.newest, hashes=forge.frontier(other.leaves))
    refused(files, "not the last one of the segment before")


def a_checkpoint_says_what_is_before_it():
    texts = bodies()
    made = journal(until=2)
    for changed, what in [
        ({"durable": 3}, "says that 3 was on disk"),
        ({"durable": 4}, "says that 4 was on disk"),
        ({"size": 3}, "of size 3"),
        ({"keys": [NEXT]}, "is not known"),
        ({"text": forge.note(3, forge.head(made.leaves), [AUDIT])}, "of size 4, in its note 3"),
        ({"text": forge.note(4, forge.head(made.leaves[:3]), [AUDIT])}, "its root is not that"),
        ({"text": forge.note(4, forge.head(made.leaves), [])}, "is not three lines"),
        ({"text": made.newest + b"\n"}, "begins not with the origin"),
        ({"text": made.newest[:-1]}, "is not three lines"),
        ({"text": made.newest.replace(b"\n4\n", b"\n04\n")}, "is no number"),
        ({"text": made.newest.replace(b"=\n\n", b"\n\n")}, "is not base64"),
        ({"text": made.newest.replace("—".encode(), b"-")}, "begins not with the origin"),
    ]:
        refused(journal(until=2, **changed).files(), what, "--allow-torn-tail")
    swapped = [texts[0], texts[1], texts[3], texts[2]]
    refused(journal(swapped, until=2, text=made.newest).files(), "its root is not that")
    back = Forge().write(*texts[:2]).write(texts[2]).write(texts[3], durable=2).write(texts[4], durable=1)
    refused(back.files(), "says that 1 was on disk")
    refused(Forge().write(*texts[:2]).write(*texts[2:4], ends=False).files(), "no checkpoint covers")


def one_audit_key_hands_over_to_the_next():
    entry, texts = public(NEXT, "audit-2", "audit", "ed25519"), bodies()
    named = {"audit_key": base64.b64encode(spki(NEXT.public_key())).decode(), "audit_kid": "audit-2"}
    start, freeze = body("start", RECORDS[1][1] | named), body("freeze", {"by": "", "reason": ""})
    stop = body("stop", {"reason": "x"})

    def renewed(keys=(NEXT, AUDIT), first=start, then=(NEXT,)):
        return Forge().write(*texts[:2]).write(stop).write(first, keys=keys).write(freeze, keys=then).files()

    code, said = check(renewed(), more=[entry])
    assert code == 0 and json.loads(said)["records"] == 5, said
    assert check_journal(renewed(), None)["records"] == 5
    for changed, what in [
        ({"keys": [NEXT]}, "signs alone"),
        ({"keys": [AUDIT]}, "another audit_key signed it"),
        ({"keys": [AUDIT], "first": texts[1]}, "signs alone"),
        ({"keys": [AUDIT, NEXT]}, "was not in force"),
        ({"keys": [NEXT, NEXT]}, "was in force before"),
        ({"keys": [NEXT, AUDIT, AUDIT]}, "its length is out of range"),
        ({"then": [AUDIT]}, "signs alone"),
        ({"then": [AUDIT, NEXT]}, "was in force before"),
        ({"then": [NEXT, AUDIT]}, "was not in force"),
        ({"first": texts[1]}, "another audit_key signed it"),
    ]:
        refused(renewed(**changed), what, more=[entry])
    refused(renewed(), "is not known")
    # The change is the last write of a segment: the next one's header has both signatures, and goes on alone.
    made = Forge().write(*texts[:2]).write(start, keys=[NEXT, AUDIT]).write(body("segment", {"seals": []}), freeze)
    files = made.files()
    assert check(files, more=[entry])[0] == 0
    assert check({max(files): files[max(files)]}, more=[entry])[0] == 0
    made.write(freeze, keys=[AUDIT])
    refused({max(files): made.files()[max(files)]}, "signs alone", more=[entry])


def what_a_client_holds_has_to_be_there():
    made = journal(until=3)
    files = made.files()
    receipt = {"log": origin_of(), "seq": 4, "leaf": made.leaves[3].hex()}
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
        ({"receipt": receipt | {"leaf": "00" * 32}}, "another leaf"),
        ({"receipt": receipt | {"log": origin_of(bytes(16))}}, "another log"),
    ]:
        refused(files, what, received=line | changed)
    refused(journal().files(), "withheld by 8", received=line)
    # A receipt tells of an end that looks torn.
    cut = files | {made.name: files[made.name][:made.begins[1] + 30].ljust(SEGMENT_BYTES, b"\0")}
    assert judged(cut, known())["records"] == 2
    refused(cut, "record 4 is not there", "--allow-torn-tail", received=line)


def a_proof_shows_a_record_without_the_journal():
    texts = [body("freeze", {"by": "a", "reason": str(number)}) for number in range(20)]
    leaves = [leaf(text) for text in texts]
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        (scratch / "signers.json").write_text(json.dumps({"signers": registry()}))

        def show(proof, record, receipt=None):
            (scratch / "proof").write_bytes(proof)
            (scratch / "record").write_bytes(record)
            (scratch / "receipt").write_text(json.dumps(receipt))
            return run("--proof", scratch / "proof", "--record", scratch / "record", "--registry", scratch / "signers.json",
                       "--receipt", scratch / "receipt")

        for size in range(1, 21):
            for index in range(size):
                receipt = {"log": origin_of(), "seq": index + 1, "leaf": leaves[index].hex()}
                code, said = show(forge.proof(index, leaves[:size], [AUDIT]), texts[index], receipt)
                assert code == 0 and json.loads(said)["size"] == size, (size, index, said)
        good = forge.proof(6, leaves[:11], [AUDIT])
        receipt = {"log": origin_of(), "seq": 7, "leaf": leaves[6].hex()}
        with_extra = good.replace(b"v1\n", b"v1\nextra AAAA\n")
        assert show(with_extra, texts[6])[0] == 0
        assert show(forge.proof(6, leaves[:11], [NEXT]), texts[6])[0] == 1
        for name in receipt:
            assert "the receipt's " + name in show(good, texts[6], receipt | {name: 9})[1]
        for at in range(len(good)):
            changed = good[:at] + bytes([good[at] ^ 1]) + good[at + 1:]
            assert show(changed, texts[6], receipt)[0] == 1, f"byte {at} of the proof"
            assert show(good[:at], texts[6], receipt)[0] == 1, f"the proof cut off at byte {at}"
        for at in range(len(texts[6])):
            changed = texts[6][:at] + bytes([texts[6][at] ^ 1]) + texts[6][at + 1:]
            assert show(good, changed)[0] == 1, f"byte {at} of the record"
        lines = good.split(b"\n")
        for number in range(2, 6):
            assert show(b"\n".join(lines[:number] + lines[number + 1:]), texts[6])[0] == 1
            assert show(b"\n".join(lines[:number] + [lines[number]] + lines[number:]), texts[6])[0] == 1


for test in [
    the_page_and_the_checker_agree_on_a_good_journal,
    the_oldest_segments_may_be_moved_away,
    a_session_is_followed_through,
    calls_are_those_of_their_intent,
    what_does_not_belong_is_found,
    a_header_goes_on_from_the_segment_before,
    a_checkpoint_says_what_is_before_it,
    one_audit_key_hands_over_to_the_next,
    tails.what_no_crash_leaves_is_a_defect,
    tails.what_was_acknowledged_is_not_torn,
    tails.sectors_that_are_missing_are_torn,
    tails.a_write_that_is_cut_off_anywhere_is_torn_or_a_defect,
    what_a_client_holds_has_to_be_there,
    a_proof_shows_a_record_without_the_journal,
    tails.every_changed_byte_is_found,
]:
    test()
    print(f"{test.__name__}: ok")
print("ok")
