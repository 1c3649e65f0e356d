"""Checks a signature under this machine's own copy of the registry, signers.json.

What the proxy says of itself proves nothing. In an emergency the key is another one, which the registry
has too.
"""

import json
import os

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

# The registry says which algorithm it is, never the answer.
ARGUMENTS = {
    "ed25519": (),
    "ecdsa-p256-sha256": (ec.ECDSA(SHA256()),),
    "rsa-sha256": (padding.PKCS1v15(), SHA256()),
}


class NotVerified(Exception):
    pass


def verify(message: bytes, kid: str, signature: bytes) -> None:
    """Raises unless `signature` is the one of the registered key `kid` over `message`."""
    with open(os.environ["SIGNCTL_SIGNERS"], encoding="utf-8") as file:
        signers = {entry.get("signer_kid"): entry for entry in json.load(file)["signers"]}
    signer = signers.get(kid)
    if signer is None or "revokedAt" in signer:
        raise NotVerified(f"NOT VERIFIED: {kid} is not registered, or revoked")
    if signer["algorithm"] not in ARGUMENTS:
        raise NotVerified(f"NOT VERIFIED: add {signer['algorithm']} to verify.py")
    key = load_pem_public_key(signer["public_key_pem"].encode())
    try:
        key.verify(signature, message, *ARGUMENTS[signer["algorithm"]])
    except InvalidSignature:
        raise NotVerified(f"NOT VERIFIED under the registered key of {kid}") from None
