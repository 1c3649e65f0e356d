"""Checks a batch signer's signature (docs/reference/batch.md) under this machine's registry, signers.json.

    SIGNCTL_SIGNERS=signers.json python3 verify_batch.py KID DEPLOYMENT message|digest PROOF_FILE <INPUT
"""

import base64
import hashlib
import json
import os
import re
import sys

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

ALGORITHMS = {"ed25519": "ED25519_SHA_512", "ecdsa-p256-sha256": "ECDSA_SHA_256"}
PROOF = re.compile(  # extra, index, path, note, key name, size, root, key name, signature
    r"c2sp\.org/tlog-proof@v1\nextra ([!-~]+)\nindex (\d+)\n((?:[!-~]+\n)*)\n"
    "(([!-~]+)/[0-9a-f]{32}\n(\\d+)\n([!-~]+)\n)\n\u2014 ([!-~]+) ([!-~]+)\n", re.ASCII)


def need(holds: object, why: str) -> None:
    if not holds:
        raise ValueError(why)


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def decoded(text: str) -> bytes:
    found = base64.b64decode(text, validate=True)
    need(base64.b64encode(found).decode() == text, "a second spelling")
    return found


def verify(proof: str, kid: str, deployment: str, form: str, given: bytes, signers: list) -> None:
    """Raises unless `proof` is the signature of the batch signer `kid` over `given`, a message or a digest."""
    signer = next(entry for entry in signers if entry.get("signer_kid") == kid)
    need(signer.get("mode") == "batch" and "revokedAt" not in signer, "no batch signer, or revoked")
    key, name = load_pem_public_key(signer["public_key_pem"].encode()), f"{deployment}/batch/{kid}"
    found = PROOF.fullmatch(proof)
    need(found and found[5] == found[8] == name, "no proof of this key")
    index, size, path = int(found[2]), int(found[6]), [decoded(line) for line in found[3].splitlines()]
    need(str(index) == found[2] and str(size) == found[6] and index < size, "no such leaf")
    random, texts = decoded(found[1]), (kid, ALGORITHMS[signer["algorithm"]], form)
    need(len(random) == 32 and all(len(sibling) == 32 for sibling in path), "a wrong length")
    fields = b"".join(len(text).to_bytes(2, "big") + text.encode() for text in texts)
    node = sha256(b"\0", b"signing-proxy batch v1\0", random, fields, sha256(given))
    last = size - 1  # RFC 9162, section 2.1.3.2
    for sibling in path:
        need(last > 0, "the path is too long")
        if index % 2 or index == last:
            node = sha256(b"\1", sibling, node)
            while index and index % 2 == 0:
                index, last = index // 2, last // 2
        else:
            node = sha256(b"\1", node, sibling)
        index, last = index // 2, last // 2
    need(last == 0 and node == decoded(found[7]), "the path does not lead to the root")
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    is_ed25519, line = signer["algorithm"] == "ed25519", decoded(found[9])
    need(line[:4] == sha256(name.encode() + b"\n\1" + der[-32:] if is_ed25519 else der)[:4], "another key")
    key.verify(line[4:], found[4].encode(), *(() if is_ed25519 else (ec.ECDSA(SHA256()),)))


if __name__ == "__main__":
    kid, deployment, form, file = sys.argv[1:]
    with open(os.environ["SIGNCTL_SIGNERS"], encoding="utf-8") as registry:
        signers = json.load(registry)["signers"]
    try:
        with open(file, encoding="utf-8", newline="") as proof:
            verify(proof.read(), kid, deployment, form, sys.stdin.buffer.read(), signers)
    except Exception as why:  # Whatever it is, it did not verify.
        sys.exit(f"NOT VERIFIED: {why or type(why).__name__}")
    print("verified")
