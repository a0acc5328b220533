// One step of RFC 9474 by an independent implementation: JSON in on standard input, JSON out.
import { RSABSSA } from '@cloudflare/blindrsa-ts';

const suite = RSABSSA.SHA384.PSS.Randomized();
const algorithm = { name: 'RSA-PSS', hash: 'SHA-384' };
const bytes = (text) => new Uint8Array(Buffer.from(text, 'base64'));
const text = (data) => Buffer.from(data).toString('base64');

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const asked = JSON.parse(Buffer.concat(chunks).toString());
const publicKey = await crypto.subtle.importKey('spki', bytes(asked.spki), algorithm, true, ['verify']);
const privateKey = asked.pkcs8
  ? await crypto.subtle.importKey('pkcs8', bytes(asked.pkcs8), algorithm, true, ['sign'])
  : undefined;

let said;
if (asked.step === 'sign') {
  said = { signed: text(await suite.blindSign(privateKey, bytes(asked.blinded))) };
} else if (asked.step === 'verify') {
  said = { holds: await suite.verify(publicKey, bytes(asked.signature), bytes(asked.prepared)) };
} else if (asked.step === 'blind') {
  const prepared = suite.prepare(bytes(asked.message));
  const { blindedMsg, inv } = await suite.blind(publicKey, prepared);
  said = { prepared: text(prepared), blinded: text(blindedMsg), inverse: text(inv) };
} else {
  const done = await suite.finalize(publicKey, bytes(asked.prepared), bytes(asked.signed), bytes(asked.inverse));
  said = { signature: text(done) };
}
process.stdout.write(JSON.stringify(said));
