// An independent client of the sealed channel: discovers the key, asks once, asks for a stream, then with a stale key.
// Prints what it saw as one JSON object. Usage: node client.mjs http://127.0.0.1:PORT

import { webcrypto } from "node:crypto";

globalThis.crypto ??= webcrypto; // node 18 has it, but not in sight
const { Identity, KeyConfigMismatchError, Transport, createTransport } = await import("ehbp");

const url = process.argv[2];
const chat = `${url}/v1/chat/completions`;
const asking = (body) => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify(body),
});

const transport = await createTransport(url);
const unary = await transport.request(chat, asking({ messages: [{ role: "user", content: "canary" }] }));
const answer = await unary.json();

const streamed = await transport.request(chat, asking({ stream: true, messages: [] }));
const pieces = [];
for await (const piece of streamed.body) pieces.push(new TextDecoder().decode(piece));

const stale = new Transport(await Identity.generate(), new URL(url).host);
let mismatch = false;
try {
  await stale.request(chat, asking({ messages: [] }));
} catch (error) {
  mismatch = error instanceof KeyConfigMismatchError;
}

console.log(JSON.stringify({ key: await transport.getServerPublicKeyHex(), answer, pieces, mismatch }));
