// A client whose server is killed, stopped and started anew.

import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";

import { connect } from "../index.js";
import { PATIENCE, folder, serve, until } from "./support.js";

const limit = { timeout: 3 * PATIENCE };
const [GET, SET, ECHO, SLEEP, COUNT, CHANGED] = [1, 2, 4, 6, 7, 1];
// Attempts enough for a machine that is busy, close together.
const rules = { attempts: 100_000, within: 2 * PATIENCE, firstPause: 5, longestPause: 50 };
const patient = { connectTimeout: PATIENCE, timeout: PATIENCE };

async function store(t, options = { reconnect: rules }) {
  const endpoint = `unix:${path.join(await folder(t), "store.sock")}`;
  const server = await serve(t, endpoint);
  const told = [];
  const client = await connect(endpoint, {
    ...patient,
    onReconnected: (how) => told.push(how),
    onDisconnected: (reason) => told.push(reason.code),
    ...options,
  });
  t.after(() => client.close({ timeout: 0 }));
  return { client, endpoint, server, told };
}

test("a killed server that was started anew goes on being served to, and all that was lost is told", limit, async (t) => {
  const { client, endpoint, server, told } = await store(t);
  const changes = await client.subscribe(CHANGED);
  await client.call(SET, "before");
  const [perhaps, parts] = [client.call(SLEEP, "600000", { timeout: 0 }), client.stream(COUNT, "1000000000")];
  const lost = assert.rejects(perhaps, { code: "gone", mayHaveBeenExecuted: true });
  await parts.next();
  const safe = client.call(SLEEP, "200", { idempotent: true });
  await client.ping({ timeout: PATIENCE });
  await server.kill("SIGKILL");
  await lost;
  const waiting = client.call(ECHO, "asked in between");
  const cancelled = client.call(ECHO, "", { signal: AbortSignal.timeout(5) }).catch((error) => error);
  await assert.rejects(client.ping(), { code: "gone" });
  assert.deepEqual([(await cancelled).code, (await cancelled).mayHaveBeenExecuted], ["cancelled", false]);
  await serve(t, endpoint);
  assert.equal(String(await waiting), "asked in between");
  assert.equal(String(await safe), "200");
  await assert.rejects(async () => {
    for await (const part of parts) assert.ok(part.length > 0);
  }, { code: "gone" });
  await until("it is told", () => told.length === 2);
  assert.equal(told[0], "gone");
  assert.equal(told[1].restarted, true);
  assert.ok(told[1].attempts >= 1 && told[1].reason.code === "gone");

  assert.equal(String(await client.call(GET)), "hello, this is server!", "it has forgotten");
  await client.call(SET, "after");
  const [old, renewed] = [(await changes.next()).value, (await changes.next()).value];
  assert.deepEqual([String(old.payload), old.renewal], ["before", undefined]);
  assert.deepEqual([String(renewed.payload), renewed.renewal, renewed.number], ["after", "restarted", 1]);
  await client.call(SET, "again");
  assert.deepEqual((await changes.next()).value.renewal, undefined);
});

test("a server that stops is left for the next one", limit, async (t) => {
  const { client, endpoint, server, told } = await store(t);
  const slow = client.call(SLEEP, "600000", { timeout: 0 }).catch((error) => error);
  await client.ping({ timeout: PATIENCE });
  await server.kill("SIGTERM");
  const { mayHaveBeenExecuted, rc } = await slow;
  assert.deepEqual([mayHaveBeenExecuted, rc], [true, -9]);
  const next = client.call(ECHO, "to the next");
  await serve(t, endpoint);
  assert.equal(String(await next), "to the next");
  assert.equal(told.filter((what) => what.restarted).length, 1);
});

test("without the option the end is the end", limit, async (t) => {
  const { client, server, told } = await store(t, {});
  const changes = await client.subscribe(CHANGED);
  const slow = client.call(SLEEP, "600000", { timeout: 0, idempotent: true }).catch((error) => error);
  await client.ping({ timeout: PATIENCE });
  await server.kill("SIGKILL");
  assert.equal((await client.closed).code, "gone");
  assert.deepEqual([(await slow).code, (await slow).mayHaveBeenExecuted], ["gone", true]);
  await assert.rejects(client.call(GET), { code: "gone", mayHaveBeenExecuted: false });
  await assert.rejects(client.subscribe(CHANGED), { code: "gone" });
  await assert.rejects(changes.next(), { code: "gone" });
  assert.deepEqual(told, ["gone"]);
  await client.close();
});

test("it gives up, and says so to all who wait", limit, async (t) => {
  const few = { attempts: 3, firstPause: 1, longestPause: 2 };
  const { client, server } = await store(t, { reconnect: few, limits: { maxQueued: 2 } });
  const changes = await client.subscribe(CHANGED);
  await server.kill("SIGKILL");
  await until("it knows", async () => client.ping().then(() => false, () => true));
  const calls = [1, 2, 3].map(() => client.call(GET).catch((error) => error));
  const ends = await Promise.all(calls);
  for (const { code, mayHaveBeenExecuted } of ends) {
    assert.ok(code === "not-listening" || code === "busy", code);
    assert.equal(mayHaveBeenExecuted, false);
  }
  const reason = await client.closed;
  assert.deepEqual([reason.code, /3 attempts/.test(reason.message)], ["not-listening", true], reason.message);
  await assert.rejects(changes.next(), { code: "not-listening" });
});

test("who closes in between connects no more", limit, async (t) => {
  const { client, endpoint, server, told } = await store(t, { reconnect: rules, limits: { maxQueued: 2 } });
  await server.kill("SIGKILL");
  await until("it knows", async () => client.ping().then(() => false, () => true));
  const waiting = [1, 2].map(() => client.call(GET).catch((error) => error));
  await assert.rejects(client.call(GET), { code: "busy", mayHaveBeenExecuted: false }, "so many may wait");
  await client.close();
  for (const call of waiting) assert.equal((await call).code, "closed");
  assert.equal(await client.closed, undefined);
  await serve(t, endpoint);
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.deepEqual(told, ["gone"]);
});
