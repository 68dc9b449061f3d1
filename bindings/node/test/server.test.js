// The client against `sidewire serve`, whose path is in SIDEWIRE.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { getEventListeners } from "node:events";
import { chmod, lstat, mkdir, readdir, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { SidewireError, connect } from "../index.js";
import { hasAbstractNames } from "../lib/endpoint.js";
import { PATIENCE, folder, serve, unique, until } from "./support.js";

const run = promisify(execFile);
const here = path.dirname(fileURLToPath(import.meta.url));
const limit = { timeout: 2 * PATIENCE };
const patient = { connectTimeout: PATIENCE, timeout: PATIENCE };
const [GET, SET, SET_AND_GET, ECHO, STATISTICS, SLEEP, COUNT, CALL_BACK, CHANGED] = [1, 2, 3, 4, 5, 6, 7, 8, 1];

/** A server at a path of its own, and a client. */
async function store(t, options = {}) {
  const place = path.join(await folder(t), "store.sock");
  const server = await serve(t, `unix:${place}`);
  const client = await connect(server.endpoint, { ...patient, ...options });
  t.after(() => client.close());
  return { client, place, server };
}

test("calls are answered, in any order", limit, async (t) => {
  const { client } = await store(t);
  assert.equal(String(await client.call(GET)), "hello, this is server!");
  const slow = client.call(SLEEP, "200");
  const echoes = await Promise.all(Array.from({ length: 500 }, (_, number) => client.call(ECHO, `number ${number}`)));
  echoes.forEach((echo, number) => assert.equal(String(echo), `number ${number}`));
  assert.equal(String(await slow), "200");
  assert.match(client.server.software, /^sidewire\//);
  assert.match(client.server.instance, /^[0-9a-f]{32}$/);
});

test("payloads of each kind and size arrive as they were", limit, async (t) => {
  const { client } = await store(t);
  const echo = (payload) => client.call(ECHO, payload);
  assert.equal((await echo()).length, 0);
  assert.equal(String(await echo("grüße, 世界")), "grüße, 世界");
  assert.deepEqual(await echo(new Uint8Array([0, 255])), Buffer.from([0, 255]));
  assert.deepEqual(await echo(new DataView(new ArrayBuffer(8), 2, 3)), Buffer.alloc(3));
  assert.deepEqual(await echo(new Uint16Array([1, 2]).buffer), Buffer.from([1, 0, 2, 0]));
  const sizes = [1, 16, 65_535, 65_536, 1_000_000, 16 << 20];
  for (const size of sizes) {
    const payload = Buffer.alloc(size, `${size}`);
    assert.ok((await echo(payload)).equals(payload), `${size}`);
  }
  const mine = Buffer.from("before");
  const reply = echo(mine);
  mine.fill("x");
  assert.equal(String(await reply), "before", "it was copied");
  await assert.rejects(echo(Buffer.alloc((16 << 20) + 1)), { rc: -3, mayHaveBeenExecuted: false });
  for (const wrong of [7, {}, true]) await assert.rejects(echo(wrong), { code: "invalid-input" });
  await assert.rejects(client.call(65_536), { code: "invalid-input" });
  await assert.rejects(client.call(ECHO, "", { timeout: -1 }), { code: "invalid-input" });
});

test("result codes are errors that say what was answered", limit, async (t) => {
  const { client } = await store(t);
  await assert.rejects(client.call(9), { name: "SidewireError", rc: -2, code: "no-handler", mayHaveBeenExecuted: true });
  await assert.rejects(client.call(16), { rc: -1, code: "unknown-type" });
  await assert.rejects(client.call(SLEEP, "x"), { rc: -4, code: "malformed", message: /number/ });
  await assert.rejects(client.describe(), { rc: -1, code: "unknown-type" });
});

test("a call that takes too long, or is cancelled, ends on both sides", limit, async (t) => {
  const { client } = await store(t);
  await assert.rejects(client.call(SLEEP, "600000", { timeout: 50 }), { rc: -7, mayHaveBeenExecuted: true });
  const controller = new AbortController();
  const cancelled = client.call(SLEEP, "600000", { signal: controller.signal });
  await client.ping({ timeout: PATIENCE }); // so it has left
  controller.abort(new Error("enough"));
  const { rc, code, mayHaveBeenExecuted, cause } = await cancelled.catch((error) => error);
  assert.deepEqual([rc, code, mayHaveBeenExecuted, cause.message], [-8, "cancelled", true, "enough"]);
  const { signal } = new AbortController();
  await client.call(ECHO, "", { signal });
  assert.equal(getEventListeners(signal, "abort").length, 0, "who has an answer needs no signal");
  const never = client.call(SLEEP, "1", { signal: AbortSignal.abort() });
  await assert.rejects(never, { rc: -8, mayHaveBeenExecuted: false });
  await until("the server knows of both", async () => {
    const { failures } = JSON.parse(await client.call(STATISTICS));
    const count = (rc) => failures.find((failure) => failure.type === SLEEP && failure.rc === rc)?.count ?? 0;
    // Of the first it may hear from us before it looks at its own clock.
    return count(-7) <= 1 && count(-7) + count(-8) === 2;
  });
});

test("parts come as they are taken, and who leaves cancels", limit, async (t) => {
  const { client } = await store(t, { limits: { streamCredit: 1000 } });
  const all = [];
  const parts = client.stream(COUNT, "5000");
  for await (const part of parts) all.push(Number(part));
  assert.deepEqual(all, Array.from({ length: 5000 }, (_, number) => number + 1));
  assert.equal(parts.reply.length, 0);
  for await (const part of client.stream(COUNT, "1000000000")) if (String(part) === "2000") break;
  assert.equal(String(await client.call(ECHO, "and on")), "and on");
  const failing = client.stream(COUNT, "x");
  await assert.rejects(failing.next(), { rc: -4 });
  assert.equal((await failing.next()).done, true);
  const stuck = client.stream(SLEEP, "600000", { timeout: 50 });
  await assert.rejects(stuck.next(), { rc: -7 });
  assert.equal((await client.call(COUNT, "3000")).length, 0, "who asks for no parts gets the end");
});

test("a slow reader of parts holds up the server, and nothing else", limit, async (t) => {
  const { client } = await store(t, { limits: { streamCredit: 100 } });
  const parts = client.stream(COUNT, "1000000");
  await parts.next();
  const before = JSON.parse(await client.call(STATISTICS)).bytes_sent;
  for (let count = 0; count < 20; count += 1) await client.call(ECHO);
  const after = JSON.parse(await client.call(STATISTICS)).bytes_sent;
  assert.ok(after - before < 10_000, `${after - before} bytes, while nobody took parts`);
  await parts.return();
});

test("events come in order, to each who has subscribed, until they leave", limit, async (t) => {
  const { client } = await store(t);
  const [first, second] = [await client.subscribe(CHANGED), await client.subscribe(CHANGED)];
  await client.call(SET, "one");
  await client.notify(SET, "two");
  for (const events of [first, second]) {
    const { value } = await events.next();
    assert.deepEqual([value.topic, value.number, value.dropped, String(value.payload)], [CHANGED, 1, 0, "one"]);
  }
  await first.close();
  await client.call(SET_AND_GET, "three");
  assert.equal(String((await second.next()).value.payload), "two");
  assert.equal(String((await second.next()).value.payload), "three");
  assert.equal((await first.next()).done, true);
  await second.close();
  await client.call(SET, "four");
  const third = await client.subscribe(CHANGED);
  await client.call(SET, "five");
  assert.deepEqual((await third.next()).value.number, 1, "a new subscription counts anew");
  await assert.rejects(client.subscribe(9), { rc: -2 });
  await assert.rejects(client.subscribe(16), { rc: -1 });
});

test("the server's calls are answered by handlers", limit, async (t) => {
  const handlers = { 20: (payload) => String(payload).toUpperCase() };
  const { client } = await store(t, { handlers, onHandlerError: () => undefined });
  const back = (type) => client.call(CALL_BACK, String(type));
  assert.equal(String(await back(20)), "PING");
  client.handle(21, async () => {
    throw new SidewireError("not today", { rc: 7 });
  });
  client.handle(22, () => {
    throw new Error("a secret");
  });
  client.handle(23, () => 5);
  client.handle(24, () => undefined);
  await assert.rejects(back(21), (error) => error.rc === 7 && String(error.payload) === "not today");
  await assert.rejects(back(22), (error) => error.rc === -10 && !error.message.includes("secret"));
  await assert.rejects(back(23), { rc: -10 });
  assert.equal((await back(24)).length, 0);
  await assert.rejects(back(25), { rc: -2 });
  client.handle(20);
  await assert.rejects(back(20), { rc: -2 });
});

test("whoever closes has everything answered that was asked before", limit, async (t) => {
  const { client, place } = await store(t);
  const [notified, slow] = [client.notify(SET, "the last word"), client.call(SLEEP, "100")];
  const events = await client.subscribe(CHANGED);
  const last = client.subscribe(CHANGED);
  await client.close({ timeout: PATIENCE });
  await notified;
  assert.equal(String(await slow), "100");
  assert.equal((await (await last).next()).done, true);
  assert.equal((await events.next()).done, true);
  assert.equal(await client.closed, undefined);
  await assert.rejects(client.call(GET), { code: "closed", mayHaveBeenExecuted: false });
  await assert.rejects(client.ping(), { code: "closed" });
  await client.close();
  const next = await connect(`unix:${place}`, patient);
  assert.equal(String(await next.call(GET)), "the last word");
  const endless = next.call(SLEEP, "600000");
  const rejected = assert.rejects(endless, (error) => error.code === "closed" && error.mayHaveBeenExecuted);
  await next.ping({ timeout: PATIENCE });
  await next.close({ timeout: 10 });
  await rejected;
});

test("where others could have put the socket it is not used, unless anyone may serve", limit, async (t) => {
  const { place, client } = await store(t);
  assert.equal((await lstat(place)).isSocket(), true);
  const anyone = async (endpoint) => (await connect(endpoint, { ...patient, access: "anyone" })).close();
  const link = path.join(await folder(t), "link.sock");
  await symlink(place, link);
  await assert.rejects(connect(`unix:${link}`), { code: "not-permitted", message: /symbolic link/ });
  await anyone(`unix:${link}`);
  const folders = path.join(path.dirname(link), "folders");
  await symlink(path.dirname(place), folders);
  await (await connect(`unix:${path.join(folders, "store.sock")}`, patient)).close();
  await chmod(path.dirname(place), 0o777);
  await assert.rejects(connect(`unix:${place}`), { code: "not-permitted", message: /written to by others/ });
  await chmod(path.dirname(place), 0o1777);
  await (await connect(`unix:${place}`, patient)).close();
  await chmod(path.dirname(place), 0o770);
  await assert.rejects(connect(`unix:${place}`), { code: "not-permitted" });
  await anyone(`unix:${place}`);
  await chmod(path.dirname(place), 0o700);
  const file = path.join(path.dirname(place), "file");
  await writeFile(file, "");
  await assert.rejects(connect(`unix:${file}`), { code: "invalid-input" });
  await assert.rejects(connect(`unix:${place}.not`), { code: "not-listening", mayHaveBeenExecuted: false });
  await assert.rejects(connect(`unix:${place}`, { access: "everyone" }), { code: "invalid-input" });
  assert.equal(String(await client.call(ECHO, "still here")), "still here");
});

test("a socket of another user's is not used", limit, async (t) => {
  if (process.geteuid() !== 0) return t.skip("only root can give it away");
  const { place } = await store(t);
  const { chown } = await import("node:fs/promises");
  await chown(place, 4711, 4711);
  await assert.rejects(connect(`unix:${place}`), { code: "not-permitted", message: /4711/ });
  await chown(place, 0, 0);
  await chown(path.dirname(place), 4711, 4711);
  await assert.rejects(connect(`unix:${place}`), { code: "not-permitted", message: /4711/ });
});

test("local names are looked for in private folders only", limit, async (t) => {
  const [session, name] = [path.join(await folder(t), "session"), unique("node")];
  await mkdir(session, { mode: 0o700 });
  await serve(t, `local:${name}`, [], { XDG_RUNTIME_DIR: session });
  const client = `import { connect } from ${JSON.stringify(path.join(here, "../index.js"))};
    const client = await connect(${JSON.stringify(`local:${name}`)}, { connectTimeout: ${PATIENCE} });
    console.log(String(await client.call(1)));
    await client.close();`;
  const ask = async (where) => {
    const env = { ...process.env, XDG_RUNTIME_DIR: where };
    return run(process.execPath, ["--input-type=module", "-e", client], { env, timeout: PATIENCE }).then(
      ({ stdout }) => stdout.trim(),
      ({ stderr }) => stderr,
    );
  };
  assert.equal(await ask(session), "hello, this is server!");
  assert.equal(await ask(`${session}/`), "hello, this is server!");
  const isElsewhere = async () => {
    // The server's socket is where all programs of the user look, or a link there leads to it.
    const folders = [`/run/user/${process.geteuid()}`, `/tmp/sidewire-${process.geteuid()}`];
    const found = await Promise.all(folders.map((folder) => readdir(folder).catch(() => [])));
    return found.flat().includes(`${name}.sock`);
  };
  if (await isElsewhere()) {
    assert.equal(await ask(""), "hello, this is server!", "a link leads to it");
    await chmod(session, 0o755);
    assert.match(await ask(session), /not-listening/, "nor where a link leads to a folder that is not private");
  }
});

test("an abstract name may be anybody's", limit, async (t) => {
  const { endpoint } = await serve(t, `abstract:${unique("node")}`);
  if (!hasAbstractNames()) {
    await assert.rejects(connect(endpoint, { access: "anyone" }), { code: "unsupported" });
    return;
  }
  await assert.rejects(connect(endpoint), { code: "not-permitted", message: /anyone/ });
  const client = await connect(endpoint, { ...patient, access: "anyone" });
  assert.equal(String(await client.call(ECHO, "x")), "x");
  await client.close();
  await assert.rejects(connect(`abstract:${unique("node")}`, { access: "anyone" }), { code: "not-listening" });
});

test("over TCP it takes a token that both sides know, or a word", limit, async (t) => {
  const open = await serve(t, "tcp:127.0.0.1:0", ["--access", "anyone"]);
  await assert.rejects(connect(open.endpoint), { code: "not-permitted", message: /anyone/ });
  const anyone = await connect(open.endpoint, { ...patient, access: "anyone" });
  assert.equal(String(await anyone.call(ECHO, Buffer.alloc(3 << 20, "x"))).length, 3 << 20);
  await anyone.close();

  const place = await folder(t);
  const [tokenFile, other] = [path.join(place, "token"), path.join(place, "other")];
  const { endpoint } = await serve(t, "tcp:127.0.0.1:0", ["--token-file", tokenFile]);
  const client = await connect(endpoint, { ...patient, tokenFile });
  assert.equal(String(await client.call(ECHO, "proven")), "proven");
  await client.close();
  await assert.rejects(connect(endpoint, { ...patient, access: "anyone" }), { code: "not-permitted", message: /token/ });
  await writeFile(other, Buffer.alloc(32, 7), { mode: 0o600 });
  await assert.rejects(connect(endpoint, { ...patient, tokenFile: other }), { code: "not-permitted", message: /prove/ });
  await assert.rejects(connect(endpoint, { ...patient, token: Buffer.alloc(32, 7) }), { code: "not-permitted" });
  await assert.rejects(connect(open.endpoint, { ...patient, tokenFile }), { code: "not-permitted" }, "it has no proof");
  for (const mode of [0o640, 0o604, 0o602]) {
    await chmod(other, mode);
    await assert.rejects(connect(endpoint, { tokenFile: other }), { code: "not-permitted", message: /600/ });
  }
  await symlink(tokenFile, `${other}.link`);
  await assert.rejects(connect(endpoint, { tokenFile: `${other}.link` }), { code: "not-permitted" });
  await assert.rejects(connect(endpoint, { tokenFile: place }), { code: "not-permitted", message: /no file/ });
  await writeFile(`${other}.long`, Buffer.alloc(33), { mode: 0o600 });
  await assert.rejects(connect(endpoint, { tokenFile: `${other}.long` }), { code: "not-permitted", message: /32/ });
  await assert.rejects(connect(endpoint, { tokenFile: `${other}.none` }), { code: "not-listening" });
  await assert.rejects(connect(endpoint, { token: Buffer.alloc(31) }), { code: "invalid-input" });
});

test("what this system does not have is said so", limit, async () => {
  if (process.platform === "win32") return;
  await assert.rejects(connect("pipe:x", { access: "anyone" }), { code: "unsupported" });
});

test("all conversations of calls are played right", { timeout: 5 * PATIENCE }, async (t) => {
  const { endpoint } = await serve(t, `unix:${path.join(await folder(t), "play.sock")}`);
  const calls = path.join(here, "../../../tests/conversations/calls");
  const files = (await readdir(calls)).filter((file) => file.endsWith(".calls")).map((file) => path.join(calls, file));
  assert.ok(files.length >= 8);
  const played = await run(process.execPath, [path.join(here, "play.js"), endpoint, ...files], { timeout: 4 * PATIENCE });
  assert.deepEqual(played.stdout.trim().split("\n"), files.map((file) => `${path.basename(file)}: ok`));
  // And one that is wrong is told, with its line.
  const wrong = path.join(await folder(t), "wrong.calls");
  await writeFile(wrong, 'call 2 "x" -> 0\ncall 1 "" -> 0 "y"\n');
  const player = [path.join(here, "play.js"), endpoint, wrong];
  const failed = await run(process.execPath, player, { timeout: PATIENCE }).catch((error) => error);
  assert.deepEqual([failed.code, failed.stdout.trim()], [1, 'wrong.calls:2: 0 "x"']);
});

test("the example does what README says", limit, async (t) => {
  const { endpoint } = await serve(t, `unix:${path.join(await folder(t), "tour.sock")}`);
  const { stdout } = await run(process.execPath, [path.join(here, "../examples/tour.js"), endpoint], { timeout: PATIENCE });
  assert.deepEqual(stdout.trim().split("\n"), [
    "the value is hello, this is server!",
    "event 1: it is tea now, 0 missed before",
    "part 1", "part 2", "part 3",
    "no-handler, rc -2",
  ]);
});
