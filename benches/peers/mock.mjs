// What a team writes in an afternoon in place of a signing proxy: a server over plain HTTP that signs whatever
// it is asked for, with a P-256 key in memory. No caller is known, no gate is asked, and nothing is recorded.
import { createServer } from "node:http";
import { generateKeyPairSync, sign } from "node:crypto";

const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });

const server = createServer((request, response) => {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    const asked = JSON.parse(Buffer.concat(pieces).toString());
    const signature = sign("sha256", Buffer.from(asked.digest, "base64"), privateKey).toString("base64");
    const body = JSON.stringify({ signature, signer_kid: asked.signer_kid, ts: new Date().toISOString() });
    response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
    response.end(body);
  });
});
server.keepAliveTimeout = 600_000;
server.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ listen: `127.0.0.1:${server.address().port}` }));
});
