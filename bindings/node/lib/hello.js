// Hellos: the bytes that open a connection, and the proofs that both sides know a token. No sockets, no clock.

import { createHmac, timingSafeEqual } from "node:crypto";

import { ResultCode, SidewireError, cutText, shown } from "./error.js";

export const MAGIC = Buffer.from([0xd1, 0x53, 0x57, 0xd1]);
export const SHORTEST_ANSWER = 72;
export const LONGEST_HELLO = 1024;
/** Where a token is asked for, ours may not be longer. */
const LONGEST_PROVEN = 976;
const PROOF_LENGTH = 32;
const OUR_LENGTH = 48;
const MUST_UNDERSTAND = 0x8000;
const LONGEST_NAME = 128;

const Tag = { PROOF: 1, SOFTWARE: 2, REFUSAL: 3, APP_NAME: 4, APP_VERSION: 5, CONTRACT: 6 };
const KNOWN = new Set(Object.values(Tag));

function tlv(tag, value) {
  const head = Buffer.alloc(4);
  head.writeUInt16LE(tag, 0);
  head.writeUInt16LE(value.length, 2);
  return Buffer.concat([head, value]);
}

/** No more of a name than the other side reads. */
const name = (text) => cutText(text, LONGEST_NAME);

/** Our hello. `limits` bind the other side; `nonce` are 16 random bytes. */
export function encodeHello({ limits, nonce, app, software }) {
  const tail = [];
  if (software) tail.push(tlv(Tag.SOFTWARE, name(software)));
  if (app?.name) tail.push(tlv(Tag.APP_NAME, name(app.name)));
  if (app?.version) tail.push(tlv(Tag.APP_VERSION, name(app.version)));
  const hello = Buffer.alloc(OUR_LENGTH);
  MAGIC.copy(hello, 0);
  hello[6] = 1;
  hello[7] = 1;
  hello.writeUInt32LE(limits.maxPayload, 16);
  hello.writeUInt32LE(limits.maxInFlight, 20);
  hello.writeUInt32LE(limits.maxInFlightBytes, 24);
  hello.writeUInt32LE(limits.streamCredit, 28);
  nonce.copy(hello, 32);
  const whole = Buffer.concat([hello, ...tail]);
  whole.writeUInt16LE(whole.length, 4);
  if (whole.length > LONGEST_PROVEN) throw new RangeError("the hello is too long");
  return whole;
}

const protocolError = (text) => new SidewireError(text, { rc: ResultCode.MALFORMED, code: "protocol" });

/** How long the server's hello is, of which these are the first eight bytes. Throws if it is none. */
export function helloLength(head) {
  if (!head.subarray(0, 4).equals(MAGIC)) {
    throw protocolError("who serves there does not speak this protocol");
  }
  const length = head.readUInt16LE(4);
  // A server of the classic layout alone takes our hello for a request, and answers with its type: the magic.
  if (length < SHORTEST_ANSWER || length > LONGEST_HELLO) {
    throw protocolError(`the server's hello can't be ${length} bytes long; perhaps it knows the classic layout only`);
  }
  return length;
}

function readTags(hello) {
  const tags = new Map();
  let mustUnderstand;
  for (let at = SHORTEST_ANSWER; at < hello.length; ) {
    if (at + 4 > hello.length) throw protocolError("the server's hello is cut off");
    const tag = hello.readUInt16LE(at);
    const end = at + 4 + hello.readUInt16LE(at + 2);
    if (end > hello.length) throw protocolError("the server's hello is cut off");
    if (tag & MUST_UNDERSTAND && !KNOWN.has(tag)) mustUnderstand ??= tag;
    tags.set(tag, { at: at + 4, value: hello.subarray(at + 4, end) }); // the last one counts
    at = end;
  }
  return { tags, mustUnderstand };
}

/**
 * What a whole hello of the server says. Throws if it refuses us, or is none. `missing` is a text if it asks for what
 * we do not have: then it gets a goodbye.
 */
export function parseHello(hello) {
  const { tags, mustUnderstand } = readTags(hello);
  const text = (tag) => tags.get(tag)?.value.toString("utf8");
  const status = hello.readInt32LE(48);
  if (status !== 0) {
    const why = tags.get(Tag.REFUSAL)?.value;
    const code = status === ResultCode.NO_COMMON_VERSION ? "no-common-version" : "refused";
    throw new SidewireError(`the server refuses the connection (${status})${why ? `: ${shown(why)}` : ""}`, {
      rc: status,
      code,
    });
  }
  if (hello[52] !== 1) throw protocolError(`the server has chosen version ${hello[52]}, which was not offered`);
  const required = hello.readUInt32LE(12);
  let missing;
  if (mustUnderstand !== undefined) missing = `tag ${mustUnderstand} of the hello is not known`;
  else if (required !== 0) missing = `features ${required} are not known`;
  return {
    missing,
    proof: tags.get(Tag.PROOF),
    software: text(Tag.SOFTWARE),
    app: { name: text(Tag.APP_NAME), version: text(Tag.APP_VERSION) },
    contract: tags.get(Tag.CONTRACT)?.value.toString("hex"),
    instance: hello.toString("hex", 56, 72),
    limits: {
      maxPayload: hello.readUInt32LE(16),
      maxInFlight: hello.readUInt32LE(20),
      maxInFlightBytes: hello.readUInt32LE(24),
    },
  };
}

const hmac = (key, who, ours, theirs) => createHmac("sha256", key).update(who).update(ours).update(theirs).digest();

/** Holds the server to its proof that it knows the token, and makes ours. Throws if it does not know it. */
export function prove(token, ours, answer, proof) {
  const failed = () =>
    new SidewireError("the server does not prove that it knows the token", {
      rc: ResultCode.NOT_PERMITTED,
      code: "not-permitted",
    });
  if (proof?.value.length !== PROOF_LENGTH) throw failed();
  const blank = Buffer.from(answer);
  blank.fill(0, proof.at, proof.at + PROOF_LENGTH);
  if (!timingSafeEqual(hmac(token, "server", ours, blank), proof.value)) throw failed();
  return hmac(token, "client", ours, answer);
}
