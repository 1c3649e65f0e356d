// Checks a signature under this machine's own copy of the registry, signers.json. What the proxy says
// of itself proves nothing. In an emergency the key is another one, which the registry has too.
import { createPublicKey, verify as verifies } from 'node:crypto';
import { readFileSync } from 'node:fs';

const hashes = { 'ed25519': null, 'ecdsa-p256-sha256': 'sha256', 'rsa-sha256': 'sha256' };

/** Throws unless `signature` (base64) is the one of the registered key `kid` over `message`. */
export function verify(message, kid, signature) {
  const { signers } = JSON.parse(readFileSync(process.env.SIGNCTL_SIGNERS, 'utf8'));
  const signer = signers.find((entry) => entry.signer_kid === kid);
  if (!signer || signer.revokedAt) throw new Error(`NOT VERIFIED: ${kid} is not registered, or revoked`);
  // The registry says which algorithm it is, never the answer.
  const hash = hashes[signer.algorithm];
  if (hash === undefined) throw new Error(`NOT VERIFIED: add ${signer.algorithm} to verify.mjs`);
  const key = createPublicKey(signer.public_key_pem);
  if (!verifies(hash, message, key, Buffer.from(signature, 'base64'))) {
    throw new Error(`NOT VERIFIED under the registered key of ${kid}`);
  }
}
