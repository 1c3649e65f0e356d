"""Whose signatures count: the registry, and which audit key is in force."""
import base64
import hashlib
import json
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

from tree import Defect, need

# Their keys sign a message as it is, or a digest as the message that it is; a record has neither.
SIGN_MESSAGES = {"ED25519_SHA_512", "ML_DSA_SHAKE_256"}


def spki(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def key_id(origin, key):
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(origin.encode() + b"\n\1" + raw).digest()[:4]


class Registry:
    """`audit`: DER to signer_kid; `keys`: the others by kid. Without a file: what the journal names."""

    def __init__(self, path=None, named=()):
        self.is_given, self.keys, self.audit = path is not None, {}, {}
        for entry in json.loads(Path(path).read_text())["signers"] if path else ():
            key = serialization.load_pem_public_key(entry["public_key_pem"].encode())
            if entry.get("purpose", "signing") == "audit":
                self.audit[spki(key)] = entry["signer_kid"]
            else:
                self.keys[entry["signer_kid"]] = key
        for der, kid in named:
            self.audit[der] = kid

    def verify(self, kid, algorithm, signature, message=None, digest=None):
        """Verifies under kid's key; Ed25519 and ML-DSA over the message, all others over the digest."""
        if not self.is_given:
            return
        need(kid in self.keys, f"signer {kid} is not in the registry")
        key = self.keys[kid]
        try:
            if algorithm in SIGN_MESSAGES:
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


class AuditKeys:
    """The audit keys of one log, and which of them is in force."""

    def __init__(self, registry, origin):
        self.keys, self.in_force, self.replaced = {}, None, set()
        for der in registry.audit:
            key = serialization.load_der_public_key(der)
            self.keys[key_id(origin, key)] = key

    def verify(self, checkpoint):
        """Each signature verifies; which keys may sign is not judged."""
        for id_, signature in checkpoint.signatures:
            need(id_ in self.keys, f"audit key {id_.hex()} is not known: not in the registry, nor named by the journal if there is none")
            try:
                self.keys[id_].verify(signature, checkpoint.text)
            except InvalidSignature:
                raise Defect(f"the checkpoint's signature by {id_.hex()} does not verify") from None

    def take(self, checkpoint):
        """Verifies the log's next checkpoint, and has the key of its first signature in force."""
        self.verify(checkpoint)
        new, *old = (id_ for id_, _ in checkpoint.signatures)
        if old:
            need(new != old[0] and new not in self.replaced, f"audit key {new.hex()} was in force before")
            need(self.in_force in (None, old[0]), f"{old[0].hex()} signs the change, and was not in force")
            self.replaced.add(old[0])
        else:
            need(self.in_force in (None, new), f"{new.hex()} signs alone, and {self.in_force and self.in_force.hex()} was in force")
        self.in_force = new

    def signer(self):
        """The DER of the key in force."""
        return spki(self.keys[self.in_force])


def named_key(body):
    """The audit key and kid that a record names, if it is `init` or `start`."""
    if not body.endswith((b'"type":"init"}', b'"type":"start"}')):
        return None
    try:
        data = json.loads(body)["data"]
        der = base64.b64decode(data["audit_key"], validate=True)
        serialization.load_der_public_key(der)
        return der, data["audit_kid"]
    except (ValueError, KeyError, TypeError):
        return None
