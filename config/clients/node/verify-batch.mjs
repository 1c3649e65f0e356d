// Checks a batch signer's signature (docs/reference/batch.md) under this machine's registry, signers.json.
//
//   SIGNCTL_SIGNERS=signers.json node verify-batch.mjs KID DEPLOYMENT message|digest PROOF_FILE <INPUT
import { createHash, createPublicKey, verify as verifies } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const algorithms = { 'ed25519': 'ED25519_SHA_512', 'ecdsa-p256-sha256': 'ECDSA_SHA_256' };
// Extra, index, path, note, key name, size, root, key name, signature.
const PROOF = new RegExp('^c2sp\\.org/tlog-proof@v1\nextra ([!-~]+)\nindex (\\d+)\n((?:[!-~]+\n)*)\n'
  + '(([!-~]+)/[0-9a-f]{32}\n(\\d+)\n([!-~]+)\n)\n\u2014 ([!-~]+) ([!-~]+)\n$');

const need = (holds, why) => { if (!holds) throw new Error(why); };
const sha256 = (...parts) => createHash('sha256').update(Buffer.concat(parts)).digest();
const decoded = (text) => {
  const bytes = Buffer.from(text, 'base64');
  need(bytes.toString('base64') === text, 'a second spelling');
  return bytes;
};
const number = (text) => {
  need(String(Number(text)) === text && Number.isSafeInteger(Number(text)), 'no number');
  return Number(text);
};

/** Throws unless `proof` is the signature of the batch signer `kid` over `given`, a message or a digest. */
export function verify(proof, kid, deployment, form, given, signers) {
  const signer = signers.find((entry) => entry.signer_kid === kid);
  need(signer?.mode === 'batch' && !signer.revokedAt, 'no batch signer, or revoked');
  const [key, name] = [createPublicKey(signer.public_key_pem), `${deployment}/batch/${kid}`];
  const found = PROOF.exec(proof);
  need(found && found[5] === name && found[8] === name, 'no proof of this key');
  let [index, last] = [number(found[2]), number(found[6]) - 1];
  need(index <= last, 'no such leaf');
  const [random, path] = [decoded(found[1]), found[3].split('\n').slice(0, -1).map(decoded)];
  need([random, ...path].every((hash) => hash.length === 32), 'a wrong length');
  const fields = [kid, algorithms[signer.algorithm], form].map((text) => {
    const length = Buffer.alloc(2);
    length.writeUInt16BE(Buffer.byteLength(text));
    return Buffer.concat([length, Buffer.from(text)]);
  });
  let node = sha256(Buffer.from('\0signing-proxy batch v1\0'), random, ...fields, sha256(given));
  const half = () => { [index, last] = [Math.floor(index / 2), Math.floor(last / 2)]; };
  for (const sibling of path) { // RFC 9162, section 2.1.3.2
    need(last > 0, 'the path is too long');
    if (index % 2 === 1 || index === last) {
      node = sha256(Buffer.from([1]), sibling, node);
      while (index > 0 && index % 2 === 0) half();
    } else {
      node = sha256(Buffer.from([1]), node, sibling);
    }
    half();
  }
  need(last === 0 && node.equals(decoded(found[7])), 'the path does not lead to the root');
  const [der, line] = [key.export({ type: 'spki', format: 'der' }), decoded(found[9])];
  const isEd25519 = signer.algorithm === 'ed25519';
  const id = isEd25519 ? sha256(Buffer.from(`${name}\n\u0001`), der.subarray(-32)) : sha256(der);
  need(line.subarray(0, 4).equals(id.subarray(0, 4)), 'another key');
  const hash = isEd25519 ? null : 'sha256';
  need(verifies(hash, Buffer.from(found[4]), key, line.subarray(4)), 'the note is not signed by this key');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [kid, deployment, form, file] = process.argv.slice(2);
  try {
    const { signers } = JSON.parse(readFileSync(process.env.SIGNCTL_SIGNERS, 'utf8'));
    verify(readFileSync(file, 'utf8'), kid, deployment, form, readFileSync(0), signers);
    console.log('verified');
  } catch (why) {
    console.error(`NOT VERIFIED: ${why.message}`);
    process.exitCode = 1;
  }
}
