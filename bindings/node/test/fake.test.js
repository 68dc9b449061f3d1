// The client against servers that do what no good one does, and what `sidewire serve` has no way to show.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";

import { SidewireError, connect } from "../index.js";
import { Kind, encodeFrame } from "../lib/frame.js";
import { PATIENCE, fake, serverHello, until } from "./support.js";

const limit = { timeout: 2 * PATIENCE };
const patient = { connectTimeout: PATIENCE, timeout: PATIENCE };

async function meet(t, onFrame, options, clientOptions = {}) {
  const { endpoint, sockets } = await fake(t, onFrame, options);
  const client = await connect(endpoint, { ...patient, ...clientOptions });
  t.after(() => client.close({ timeout: 0 }));
  return { client, endpoint, sockets };
}

const echo = ({ type, id, payload }) => ({ kind: Kind.REPLY, type, id, payload });

test("a server that says no hello is left in time", limit, async (t) => {
  const { endpoint } = await fake(t, undefined, { hello: null });
  await assert.rejects(connect(endpoint, { connectTimeout: 50 }), { code: "timed-out", rc: -7 });
});

test("a server that refuses, speaks something else, or ends at once is told apart", limit, async (t) => {
  const hellos = [
    [serverHello({ status: -5, version: 0 }), "refused", -5],
    [serverHello({ status: -6, version: 0, tlvs: [[3, "full\u001b"]] }), "refused", -6],
    [Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n"), "protocol", -4],
  ];
  for (const [hello, code, rc] of hellos) {
    const { endpoint } = await fake(t, undefined, { hello });
    const error = await connect(endpoint, patient).catch((error) => error);
    assert.deepEqual([error.code, error.rc, error.message.includes("\u001b")], [code, rc, false]);
  }
  const { endpoint, sockets } = await fake(t, undefined, { hello: null });
  const rejected = assert.rejects(connect(endpoint, patient), { code: "gone" });
  await until("it is there", () => sockets.length > 0);
  sockets[0].end();
  await rejected;
});

test("a server that breaks the protocol ends its connection, and no more than that", limit, async (t) => {
  const { client, sockets } = await meet(t, ({ kind }, send) => {
    if (kind === Kind.REQUEST) send({ kind: Kind.REPLY, id: 4711 });
  }, {}, { reconnect: true });
  const said = once(sockets[0], "end");
  await assert.rejects(client.call(1), { code: "protocol", rc: -4, mayHaveBeenExecuted: true });
  assert.equal((await client.closed).code, "protocol");
  await assert.rejects(client.call(1), { code: "protocol", mayHaveBeenExecuted: false });
  await said; // its end is told, though it would connect anew otherwise
});

test("bytes of every kind end it with an error", limit, async (t) => {
  for (let round = 0; round < 30; round += 1) {
    const noise = Buffer.from(Array.from({ length: 400 }, (_, at) => (at * 37 + round * 101 + ((at * round) >> 3)) & 0xff));
    const { endpoint } = await fake(t, ({ kind }, send) => kind === Kind.REQUEST && send(noise));
    const client = await connect(endpoint, patient);
    const call = client.call(1, "", { timeout: 30_000 });
    await assert.rejects(call, SidewireError);
    await client.close({ timeout: 0 });
  }
});

test("a server that describes itself is understood, others are told apart", limit, async (t) => {
  const documents = ['{"format":1,"app":{"name":"x"},"messages":[]}', '{"format":2}', "{", "null"];
  const { client } = await meet(t, (frame, send) => {
    if (frame.kind !== Kind.REQUEST) return;
    assert.deepEqual([frame.type, frame.length], [65_535, 0]);
    send({ ...echo(frame), payload: Buffer.from(documents.shift()) });
  });
  assert.equal((await client.describe()).app.name, "x");
  for (let count = 0; count < 3; count += 1) await assert.rejects(client.describe(), { code: "protocol" });
});

test("a server that does not read costs no more than the queue has room for", limit, async (t) => {
  const { client, sockets } = await meet(t, (frame, send) => frame.kind === Kind.REQUEST && send(echo(frame)), {}, {
    limits: { maxQueued: 50, maxQueuedBytes: 1 << 20 },
  });
  sockets[0].pause();
  const large = Buffer.alloc(200_000);
  const calls = Array.from({ length: 100 }, () => client.call(1, large).then((reply) => reply.length, (error) => error));
  const refused = (await Promise.all(calls.slice(90).map((call) => Promise.race([call, client.closed]))));
  for (const error of refused) assert.deepEqual([error.code, error.mayHaveBeenExecuted], ["busy", false]);
  sockets[0].resume();
  const ends = await Promise.all(calls);
  assert.ok(ends.filter((end) => end === large.length).length >= 5);
  assert.equal(ends.filter((end) => end !== large.length && end.code !== "busy").length, 0);
});

test("a call that waits to be sent can be given up, and was not executed", limit, async (t) => {
  const taken = [];
  const { client } = await meet(t, (frame) => taken.push(frame), { hello: serverHello({ maxInFlight: 1 }) });
  const first = client.call(1);
  first.catch(() => undefined);
  await assert.rejects(client.call(2, "", { timeout: 20 }), { code: "timed-out", mayHaveBeenExecuted: false });
  const cancelled = client.call(2, "", { signal: AbortSignal.timeout(20) });
  await assert.rejects(cancelled, { code: "cancelled", mayHaveBeenExecuted: false });
  await until("the first has come", () => taken.length > 0);
  assert.deepEqual(taken.map(({ type }) => type), [1]);
});

test("the server's calls can be cancelled, time out, and crowd", limit, async (t) => {
  const replies = [];
  const { client, sockets } = await meet(t, ({ kind, id, rc }) => kind === Kind.REPLY && replies.push([id, rc]));
  const aborted = [];
  client.handle(1, (_, { signal }) => new Promise((resolve) => {
    signal.addEventListener("abort", () => {
      aborted.push(1);
      resolve("too late");
    });
  }));
  const ask = (fields) => sockets[0].write(encodeFrame({ kind: Kind.REQUEST, type: 1, ...fields }));
  ask({ id: 1 });
  ask({ id: 2, rc: 20 });
  sockets[0].write(encodeFrame({ kind: Kind.CANCEL, id: 1 }));
  await until("both have ended", () => replies.length === 2);
  assert.deepEqual(replies.sort(), [[1, -8], [2, -7]]);
  assert.equal(aborted.length, 2);
  for (let id = 3; id < 3 + 257; id += 1) ask({ id });
  assert.deepEqual([(await client.closed).code, aborted.length], ["protocol", 258]);
});

test("notifies of the server are handled, as many at a time as calls would be", limit, async (t) => {
  const { client, sockets } = await meet(t, undefined, {}, { limits: { maxInFlight: 3 } });
  const [begun, ends] = [[], []];
  client.handle(1, (payload) => {
    begun.push(payload[0]);
    return new Promise((resolve) => ends.push(resolve));
  });
  for (let number = 0; number < 10; number += 1) {
    sockets[0].write(encodeFrame({ kind: Kind.NOTIFY, type: 1, payload: Buffer.from([number]) }));
  }
  await until("some have come", () => begun.length === 3);
  for (const end of ends) end();
  await until("there is room again", () => {
    sockets[0].write(encodeFrame({ kind: Kind.NOTIFY, type: 1, payload: Buffer.from([99]) }));
    return begun.includes(99);
  });
  assert.deepEqual(begun.slice(0, 3), [0, 1, 2]);
});

test("a handler that throws is told of, and a listener that throws harms nobody", limit, async (t) => {
  const told = [];
  const { client, sockets } = await meet(t, (frame, send) => frame.kind === Kind.REQUEST && send(echo(frame)), {}, {
    onHandlerError: (error, type) => {
      told.push([error.message, type]);
      throw new Error("and so does this");
    },
    handlers: { 3: () => Promise.reject(new Error("broken")) },
  });
  sockets[0].write(encodeFrame({ kind: Kind.NOTIFY, type: 3 }));
  sockets[0].write(encodeFrame({ kind: Kind.REQUEST, type: 3, id: 1 }));
  await until("both were told", () => told.length === 2);
  assert.deepEqual(told, [["broken", 3], ["broken", 3]]);
  assert.equal(String(await client.call(1, "lives")), "lives");
});

test("signs of life are asked for and given", limit, async (t) => {
  const pongs = [];
  const { client, sockets } = await meet(t, ({ kind, id }, send) => {
    if (kind === Kind.PING && id > 1) send({ kind: Kind.PONG, id });
    if (kind === Kind.PONG) pongs.push(id);
  });
  const [first, second] = [client.ping({ timeout: PATIENCE }), client.ping({ timeout: PATIENCE })];
  assert.ok((await first) >= 0 && (await second) >= 0, "a pong answers those before, too");
  sockets[0].write(encodeFrame({ kind: Kind.PING, id: 77 }));
  await until("the pong has come", () => pongs.includes(77));
  const silent = await meet(t);
  await assert.rejects(silent.client.ping({ timeout: 20 }), { rc: -7 });
  const endless = assert.rejects(silent.client.ping({ timeout: 0 }), { code: "gone" });
  await silent.client.close({ timeout: PATIENCE });
  await endless;
});

test("a server that goes on talking, but never leaves, is left", limit, async (t) => {
  const { client, sockets } = await meet(t, undefined, { answersGoodbye: false });
  const talk = setInterval(() => sockets[0].write(encodeFrame({ kind: Kind.PING, id: 1 })), 20);
  t.after(() => clearInterval(talk));
  sockets[0].write(encodeFrame({ kind: Kind.GOODBYE }));
  assert.equal((await client.closed).code, "gone");
});

test("a goodbye without an end keeps nobody waiting who was not taken", limit, async (t) => {
  const { client } = await meet(t, ({ kind, id }, send) => {
    if (kind === Kind.REQUEST && id === 2) send({ kind: Kind.GOODBYE, id: 1, rc: -9 });
  }, { answersGoodbye: false });
  const [taken, lost] = [client.call(1, "", { timeout: 300 }), client.call(1)];
  const rejected = assert.rejects(taken, { code: "timed-out", mayHaveBeenExecuted: true });
  await assert.rejects(lost, { code: "gone", rc: -9, mayHaveBeenExecuted: false });
  await rejected;
  assert.equal((await client.closed).rc, -9);
});
