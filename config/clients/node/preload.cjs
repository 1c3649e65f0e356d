// Gives a certificate to a Node program that cannot be changed: it calls the proxy by fetch, https,
// axios or whatever else, and knows only its URL.
//   NODE_OPTIONS=--require=/etc/signing-proxy/preload.cjs node the-program.js
// Only connections to SIGNING_PROXY_URL are changed: they show the certificate, and trust one authority.
const { readFileSync } = require('node:fs');
const tls = require('node:tls');

const { SIGNING_PROXY_URL, SIGNING_PROXY_CA, SIGNING_PROXY_CLIENT_CERT, SIGNING_PROXY_CLIENT_KEY } = process.env;

for (const name of ['URL', 'CA', 'CLIENT_CERT', 'CLIENT_KEY']) {
  // What is missing stops the program here, at its start.
  if (!process.env[`SIGNING_PROXY_${name}`]) throw new Error(`preload.cjs: SIGNING_PROXY_${name} is not set`);
}
const proxy = new URL(SIGNING_PROXY_URL);
const port = Number(proxy.port || 443);
const host = proxy.hostname.replace(/^\[|\]$/g, '');
const identity = {
  ca: readFileSync(SIGNING_PROXY_CA),
  cert: readFileSync(SIGNING_PROXY_CLIENT_CERT),
  key: readFileSync(SIGNING_PROXY_CLIENT_KEY),
  // Whatever the program, or NODE_TLS_REJECT_UNAUTHORIZED, says: whoever answers has to be the proxy.
  rejectUnauthorized: true,
  checkServerIdentity: tls.checkServerIdentity,
};

const connect = tls.connect;
tls.connect = function (...given) {
  // It is called as (options, ready?), (port, options?, ready?) or (port, host, options?, ready?).
  const options = { ...given.find((argument) => typeof argument === 'object' && argument) };
  if (typeof given[0] !== 'object') options.port = given[0];
  if (typeof given[1] === 'string') options.host = given[1];
  if ((options.host ?? 'localhost') !== host || Number(options.port) !== port) return connect.apply(this, given);
  const ready = given.filter((argument) => typeof argument === 'function');
  // A context of the program's own would hide the certificate.
  return connect.call(this, { ...options, secureContext: undefined, ...identity }, ...ready);
};
// For `import { connect } from 'node:tls'`.
require('node:module').syncBuiltinESMExports();
