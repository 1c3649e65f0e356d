// A program that knows the proxy's URL and nothing of certificates, as many are: it has standard input signed
// with Node's own fetch, then with https (which it tells to trust anybody), and prints both signatures.
import { readFileSync } from 'node:fs';
import https from 'node:https';
import { text } from 'node:stream/consumers';

const url = new URL('/sign', process.env.KMS_URL);
const body = JSON.stringify({ payload_b64: readFileSync(0).toString('base64') });

function post() {
  return new Promise((resolve, reject) => {
    const request = https.request(url, { method: 'POST', rejectUnauthorized: false }, (answer) => {
      text(answer).then((said) => resolve(new Response(said, { status: answer.statusCode })), reject);
    });
    request.on('error', reject).end(body);
  });
}

for (const ask of [() => fetch(url, { method: 'POST', body }), post]) {
  try {
    const answer = await ask();
    const said = await answer.json();
    if (!answer.ok) throw new Error(`${answer.status} ${said.reason}`);
    console.log(said.signature_b64);
  } catch (error) {
    console.error(error.cause?.message ?? error.message);
    process.exitCode = 1;
  }
}
