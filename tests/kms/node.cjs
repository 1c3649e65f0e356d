// Calls KMS with AWS's client for Node, which knows of the gate only what the environment says.
//
// Reads and writes what boto.py does: a list of [operation, arguments], bytes as {"b64": "..."}, and a
// list of {"ok": answer} or {"error": code, "message": ..., "status": ...}, each with the requests it took.
const kms = require("@aws-sdk/client-kms");

function read(value) {
  const isBytes = typeof value === "object" && value !== null && "b64" in value;
  return isBytes ? Buffer.from(value.b64, "base64") : value;
}

function written(value) {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return value.map(written);
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, written(inner)]));
  }
  return value;
}

// The command of "get_public_key" is GetPublicKeyCommand.
function command(operation) {
  const words = operation.split("_").map((word) => word[0].toUpperCase() + word.slice(1));
  return kms[`${words.join("")}Command`];
}

async function main() {
  let text = "";
  for await (const piece of process.stdin) text += piece;
  const client = new kms.KMSClient({});
  let sent = 0;
  // This step runs for each request, so also for one that is sent again.
  const count = (next) => (request) => {
    sent += 1;
    return next(request);
  };
  client.middlewareStack.add(count, { step: "deserialize" });
  const results = [];
  for (const [operation, given] of JSON.parse(text)) {
    sent = 0;
    const entries = Object.entries(given).map(([key, value]) => [key, read(value)]);
    let result;
    try {
      const Command = command(operation);
      const { $metadata, ...answer } = await client.send(new Command(Object.fromEntries(entries)));
      result = { ok: written(answer) };
    } catch (error) {
      if (error.$metadata?.httpStatusCode === undefined) throw error;
      const { name, message, $metadata } = error;
      result = { error: name, message, status: $metadata.httpStatusCode };
    }
    results.push({ ...result, requests: sent });
  }
  client.destroy();
  process.stdout.write(JSON.stringify(results));
}

main();
