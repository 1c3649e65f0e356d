// Has standard input signed with fetch, checks the signature, and prints it in base64.
//   npm install undici; node fetch.mjs <FILE
// Node's own fetch takes no certificate. This one is the same, from its package. If your program cannot
// be changed, see preload.cjs.
import { readFileSync } from 'node:fs';
import { Agent, fetch } from 'undici';
import { verify } from './verify.mjs';

const { SIGNING_PROXY_URL, SIGNING_PROXY_CA, SIGNING_PROXY_CLIENT_CERT, SIGNING_PROXY_CLIENT_KEY } = process.env;

// One for the whole program: it keeps connections. A renewed certificate needs a new one.
const dispatcher = new Agent({
  connect: {
    ca: readFileSync(SIGNING_PROXY_CA), // this authority alone is trusted
    cert: readFileSync(SIGNING_PROXY_CLIENT_CERT),
    key: readFileSync(SIGNING_PROXY_CLIENT_KEY),
  },
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

async function sign(message) {
  const answer = await fetch(new URL('/v1/sign', SIGNING_PROXY_URL), {
    method: 'POST',
    dispatcher,
    redirect: 'error',
    signal: AbortSignal.timeout(30_000),
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      message: message.toString('base64'),
      signer_kid: process.env.SIGNCTL_SIGNER || undefined, // else your default signer
    }),
  });
  if (answer.status !== 200) throw new Refused(answer.status, await answer.text());
  const { signature, signer_kid } = await answer.json();
  verify(message, signer_kid, signature);
  return signature;
}

try {
  console.log(await sign(readFileSync(0)));
} catch (error) {
  console.error(error.cause?.message ?? error.message); // fetch hides why it failed
  process.exitCode = error.retryAfter ? 75 : 1;
} finally {
  await dispatcher.close();
}
