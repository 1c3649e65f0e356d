// Has standard input signed with Node's own https, checks the signature, and prints it in base64.
//   node https.mjs <FILE
import { readFileSync } from 'node:fs';
import https from 'node:https';
import { text } from 'node:stream/consumers';
import { verify } from './verify.mjs';

const { SIGNING_PROXY_URL, SIGNING_PROXY_CA, SIGNING_PROXY_CLIENT_CERT, SIGNING_PROXY_CLIENT_KEY } = process.env;

// One for the whole program: it keeps connections. A renewed certificate needs a new one.
const agent = new https.Agent({
  keepAlive: true,
  ca: readFileSync(SIGNING_PROXY_CA), // this authority alone is trusted
  cert: readFileSync(SIGNING_PROXY_CLIENT_CERT),
  key: readFileSync(SIGNING_PROXY_CLIENT_KEY),
});

/** A refusal is an answer. Do not sign with a key of your own, and do not ask again at once: fail your
 * own request or stay read-only, and come back after `retryAfter` seconds, if there are any. */
class Refused extends Error {
  constructor(status, body) {
    let said = {};
    try { said = JSON.parse(body); } catch { /* it was not the proxy that answered */ }
    super(`refused: ${said.reason ?? `HTTP ${status}`}: ${said.detail}, retry after ${said.retry_after_s} s`);
    this.reason = said.reason;
    this.retryAfter = said.retry_after_s;
  }
}

function post(path, body) {
  return new Promise((resolve, reject) => {
    const options = {
      method: 'POST', agent, signal: AbortSignal.timeout(30_000), headers: { 'content-type': 'application/json' },
    };
    const request = https.request(new URL(path, SIGNING_PROXY_URL), options, (answer) => {
      text(answer).then((body) => resolve({ status: answer.statusCode, body }), reject);
    });
    request.on('error', reject).end(JSON.stringify(body));
  });
}

async function sign(message) {
  const answer = await post('/v1/sign', {
    message: message.toString('base64'),
    signer_kid: process.env.SIGNCTL_SIGNER || undefined, // else your default signer
  });
  if (answer.status !== 200) throw new Refused(answer.status, answer.body);
  const { signature, signer_kid } = JSON.parse(answer.body);
  verify(message, signer_kid, signature);
  return signature;
}

try {
  console.log(await sign(readFileSync(0)));
} catch (error) {
  console.error(error.message);
  process.exitCode = error.retryAfter ? 75 : 1;
}
