// What waits for the program, and the pauses of a client that connects anew: no socket, no time.

import assert from "node:assert/strict";
import { test } from "node:test";

import { SidewireError } from "../index.js";
import { hasAbstractNames, parseEndpoint, sidIn } from "../lib/endpoint.js";
import { shown } from "../lib/error.js";
import { Events } from "../lib/events.js";
import { Parts } from "../lib/parts.js";
import { Outage, isWorthTrying, takeRules } from "../lib/reconnect.js";
import "./support.js";

const event = (number, length, dropped = 0) => ({ number, dropped, payload: Buffer.alloc(length) });

test("events beyond the limit are dropped, and the next one says how many", async () => {
  const events = new Events(1, 1000, async () => undefined);
  for (let number = 1; number <= 5; number += 1) events.push(event(number, 300));
  assert.equal((await events.next()).value.number, 1);
  events.push(event(6, 300, 2));
  const [second, sixth] = [await events.next(), await events.next()];
  assert.deepEqual([second.value.number, second.value.dropped], [2, 0]);
  assert.deepEqual([sixth.value.number, sixth.value.dropped], [6, 3 + 2]);
});

test("one event has room, however large, and one that is waited for always has", async () => {
  const events = new Events(1, 10, async () => undefined);
  const waiting = events.next();
  events.push(event(1, 5000));
  assert.equal((await waiting).value.number, 1);
  events.push(event(2, 5000));
  assert.equal((await events.next()).value.number, 2);
});

test("events that came before the end are taken first, then its reason is thrown once", async () => {
  const events = new Events(1, 1000, async () => undefined);
  events.push(event(1, 0));
  events.renewed("restarted");
  events.push(event(1, 0));
  events.end(new SidewireError("over", { code: "gone" }));
  assert.equal((await events.next()).value.renewal, undefined);
  assert.equal((await events.next()).value.renewal, "restarted");
  await assert.rejects(events.next(), { code: "gone" });
  assert.deepEqual(await events.next(), { done: true, value: undefined });
});

test("leaving a loop over events unsubscribes", async () => {
  let left = 0;
  const events = new Events(1, 1000, async () => (left += 1));
  events.push(event(1, 0));
  for await (const { number } of events) {
    assert.equal(number, 1);
    break;
  }
  assert.equal(left, 1);
  assert.equal((await events.next()).done, true);
});

function parts(timeout = 0) {
  const told = { given: [], givenUp: [] };
  const made = new Parts(
    { timeout, credit: 8 },
    {
      giveBack: (cost) => told.given.push(cost),
      giveUp: (error) => {
        told.givenUp.push(error.rc);
        made.outcome.fail(error);
      },
    },
  );
  return { parts: made, told };
}

test("credit is given back when half of it was taken", async () => {
  const { parts: made, told } = parts();
  for (const cost of [3, 1, 1, 9]) made.outcome.part(Buffer.alloc(cost), cost);
  for (let count = 0; count < 4; count += 1) await made.next();
  assert.deepEqual(told.given, [4, 10]);
  made.outcome.done(Buffer.from("last"));
  const { done, value } = await made.next();
  assert.deepEqual([done, String(value), String(made.reply)], [true, "last", "last"]);
});

test("who leaves the parts gives the call up, who waits too long as well", async () => {
  const first = parts();
  first.parts.outcome.part(Buffer.alloc(1), 1);
  for await (const part of first.parts) {
    assert.equal(part.length, 1);
    break;
  }
  assert.deepEqual(first.told.givenUp, [-8]);
  assert.equal((await first.parts.next()).done, true);
  const second = parts(1);
  await assert.rejects(second.parts.next(), { rc: -7 });
});

test("pauses double up to the longest, and are shortened by a half at most", () => {
  const rules = takeRules({ attempts: 6, within: 30_000, firstPause: 100, longestPause: 1000 });
  for (const [random, share] of [[1, 1], [0, 0.5]]) {
    const outage = new Outage(rules, () => random);
    assert.equal(outage.ended(5000), 0);
    const pauses = [];
    for (let pause; (pause = outage.attemptFailed(5000)) !== undefined; ) pauses.push(pause);
    assert.deepEqual(pauses, [100, 200, 400, 800, 1000].map((pause) => pause * share));
    assert.equal(outage.failed, 6);
  }
});

test("attempts are made within a time, and a connection that lasts begins anew", () => {
  const outage = new Outage(takeRules({ within: 1000, firstPause: 400, longestPause: 400 }), () => 1);
  assert.equal(outage.ended(0), 0);
  assert.equal(outage.attemptFailed(100), 400);
  assert.equal(outage.attemptFailed(500), 400);
  outage.connected(900);
  assert.equal(outage.ended(901), undefined, "one that has not lasted is an attempt that failed");
  outage.connected(900);
  assert.equal(outage.ended(1400), 0);
});

test("no other attempt is made where it would end the same", () => {
  const error = (code, rc) => new SidewireError("x", { code, rc });
  const later = [error("refused", -6), error("refused", -9)];
  for (const again of [error("not-listening"), error("gone"), error("timed-out", -7), ...later]) {
    assert.ok(isWorthTrying(again), again.code);
  }
  for (const never of [error("refused", -5), error("refused"), error("protocol", -4), error("no-common-version", -11)]) {
    assert.ok(!isWorthTrying(never), never.code);
  }
});

test("endpoints are understood as everywhere", () => {
  assert.deepEqual(parseEndpoint("unix:/tmp/x y"), { scheme: "unix", path: "/tmp/x y" });
  assert.deepEqual(parseEndpoint("tcp:[::1]:80"), { scheme: "tcp", host: "::1", port: 80 });
  assert.deepEqual(parseEndpoint("tcp:127.0.0.1:65535"), { scheme: "tcp", host: "127.0.0.1", port: 65535 });
  assert.deepEqual(parseEndpoint("local:com.example.app"), { scheme: "local", name: "com.example.app" });
  assert.deepEqual(parseEndpoint("pipe:LOCAL\\x"), { scheme: "pipe", name: "LOCAL\\x" });
  const wrong = [
    "", "unix", "unix:x", "unix:/", "unix:/x/", `unix:/${"x".repeat(107)}`, "unix:///tmp/x", "unix:/a\0b", "unix:/a\n",
    "abstract:", `abstract:${"x".repeat(108)}`, "abstract:a\0b", "local:", "local:.x", "local:-x", "local:x.", "local:a/b",
    "local:../x", "local:ä", `local:${"x".repeat(65)}`, "pipe:", "pipe:a/b", `pipe:${"x".repeat(248)}`,
    "tcp:host", "tcp:host:", "tcp:host:0", "tcp:host:65536", "tcp:host:8x", "tcp:::1:80", "tcp::80", "tcp:a b:80",
    "udp:127.0.0.1:1", "unixgram:/tmp/x", "http://x", 7, undefined,
  ];
  for (const text of wrong) assert.throws(() => parseEndpoint(text), { code: "invalid-input" }, String(text));
});

test("who can reach abstract names, and what whoami says", () => {
  const isLinux = process.platform === "linux";
  const versions = { "1.44.2": false, "1.46.0": false, "1.48.0": isLinux, "1.51.0": isLinux, "2.0.0": isLinux };
  for (const [version, has] of Object.entries(versions)) assert.equal(hasAbstractNames(version), has, version);
  assert.equal(sidIn('"pc\\user, the ""first""","S-1-5-21-1-22-333-1001"\r\n'), "S-1-5-21-1-22-333-1001");
  for (const text of ["", '"pc\\user"', '"x","S-1-5-21-1\\..\\other"', '"x","S-1-"']) assert.equal(sidIn(text), undefined);
});

test("what others say is escaped before it is shown", () => {
  assert.equal(shown(Buffer.from("a\x1b[2Jb\u202ec\n")), "a\\u{1b}[2Jb\\u{202e}c\\u{a}");
  assert.ok(shown(Buffer.alloc(5000, "x")).length < 1100);
});
