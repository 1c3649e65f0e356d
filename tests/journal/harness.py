"""What the checker's tests share: the records of one journal, and how the checker is asked."""
import base64
import contextlib
import hashlib
import io
import itertools
import json
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from check import Defect, check_journal, main
from forge import AUDIT, LOG, SEGMENT_BYTES, Forge, body
from keys import Registry, spki

ALICE, NEXT = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
DIGEST = hashlib.sha256(b"hello").digest()
REQUEST = {"algorithm": "ECDSA_SHA_256", "caller": "a", "door": "mtls", "input_digest": f"sha256:{DIGEST.hex()}",
           "mode": "normal", "request_id": "r-1", "signer_kid": "s"}
AUDIT_KEY = {"audit_key": base64.b64encode(spki(AUDIT.public_key())).decode(), "audit_kid": "audit"}
SIGNATURE = base64.b64encode(ALICE.sign(b"hello", ec.ECDSA(hashes.SHA256()))).decode()
SIGNED = REQUEST | {"intent": 3, "replayed": True, "signature": SIGNATURE,
                    "timing_us": {"queue": 1, "upstream": 2, "verify": 3}}
RECORDS = [
    ("init", AUDIT_KEY | {"by": "uid 0", "deployment": "d"}),
    ("start", AUDIT_KEY | {"cut_bytes": 0, "deployment": "d", "first_seq": 1, "open_intents": 0,
                           "seals": [], "version": "1"}),
    ("intent", REQUEST), ("signed", SIGNED), ("intent", REQUEST | {"justification": "d\u00fc \u2028\x7f\n\x01"}),
    ("segment", {"oldest_open": 5, "seals": []}),
    ("failed", REQUEST | {"detail": "", "intent": 5, "reason": "upstream_timeout"}),
    ("withheld", {"detail": "", "reason": "frozen", "request_id": "r-1", "signed": 4, "signer_kid": "s"}),
    ("stop", {"reason": "SIGTERM"}),
]


# Records that are written together; `segment` begins the second file.
WRITES = [2, 2, 1, 2, 1, 1]


def public(key, kid, purpose, algorithm):
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {"signer_kid": kid, "algorithm": algorithm, "purpose": purpose, "public_key_pem": pem.decode()}


def registry(more=()):
    return [public(AUDIT, "audit", "audit", "ed25519"), public(ALICE, "s", "signing", "ecdsa-p256-sha256"), *more]


def known(entries=None):
    """The registry as the checker reads it."""
    with tempfile.NamedTemporaryFile("w") as file:
        json.dump({"signers": entries or registry()}, file)
        file.flush()
        return Registry(file.name)


def bodies(**changed):
    """All records; `r5=(kind, data)` puts another in place of the fifth."""
    return [body(*changed.get(f"r{seq}", record)) for seq, record in enumerate(RECORDS, 1)]


def journal(texts=None, log=LOG, until=len(WRITES), segment_bytes=SEGMENT_BYTES, **of_last):
    """The records in their writes; the last one of `until` as `of_last` says."""
    made, rest = Forge(log=log, segment_bytes=segment_bytes), iter(texts or bodies())
    for number, count in enumerate(WRITES[:until], 1):
        made.write(*itertools.islice(rest, count), **(of_last if number == until else {}))
    return made


def check(files, *arguments, received=None, more=()):
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        directory = scratch / "journal"
        directory.mkdir()
        for name, data in files.items():
            (directory / name).write_bytes(data)
        (scratch / "signers.json").write_text(json.dumps({"signers": registry(more)}))
        if received is not None:
            (scratch / "received").write_text(json.dumps(received) + "\n")
            arguments += ("--received", scratch / "received")
        return run(directory, "--registry", scratch / "signers.json", *arguments)


def run(*arguments):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main(list(map(str, arguments)))
    return code, said.getvalue().strip()


def refused(files, what, *arguments, received=None, more=()):
    code, said = check(files, *arguments, received=received, more=more)
    assert code == 1 and what in said, f"wanted {what!r}, got {code}: {said}"


def judged(files, keys):
    """What the checker says of an end that may be torn: None for a defect."""
    try:
        return check_journal(files, keys, allow_torn_tail=True)
    except Defect:
        return None
