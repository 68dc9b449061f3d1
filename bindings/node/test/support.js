// What the tests have in common: a watchdog, folders, servers as processes, and a server whose every byte a test says.

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";

import { HEADER, Kind, decodeHeader, encodeFrame } from "../lib/frame.js";

/** How long anything may take, on a machine that is busy with other things. */
export const PATIENCE = 60_000;

// A test may fail, it may not hang: the process ends, whatever it waits for.
setTimeout(() => {
  console.error("the tests of this file have taken too long and are ended");
  process.exit(1);
}, 5 * PATIENCE).unref();

/** A folder of the test's own, which only this user may enter. */
export async function folder(t) {
  const made = await mkdtemp(path.join(os.tmpdir(), "sidewire-node-"));
  t.after(() => rm(made, { recursive: true, force: true }));
  return made;
}

// Whatever happens, no server outlives the tests.
const children = new Set();
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
});

export const unique = (what) => `${what}-${process.pid}-${randomBytes(6).toString("hex")}`;

/** `sidewire serve`, which is stopped behind the test. `endpoint` is the one really bound. */
export async function serve(t, endpoint, options = [], env = {}) {
  const program = process.env.SIDEWIRE;
  if (!program) throw new Error("SIDEWIRE has to be the path of the sidewire program");
  const child = spawn(program, ["serve", "--no-recorder", ...options, endpoint], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...env },
  });
  children.add(child);
  const ended = once(child, "exit").then(() => children.delete(child));
  const kill = async (signal) => {
    child.kill(signal);
    await ended;
  };
  t.after(async () => {
    const insist = setTimeout(() => child.kill("SIGKILL"), PATIENCE / 2);
    await kill("SIGTERM"); // so that it removes its files
    clearTimeout(insist);
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const bound = /^listening (.*)$/.exec(line)?.[1];
    if (bound) return { endpoint: bound, kill };
  }
  throw new Error("the server has ended before it listened");
}

/** A server's hello. */
export function serverHello({ status = 0, version = 1, tlvs = [], ...fields } = {}) {
  const numbers = { required: 0, maxPayload: 1 << 24, maxInFlight: 4096, maxInFlightBytes: 1 << 26, ...fields };
  const hello = Buffer.alloc(72);
  hello.set([0xd1, 0x53, 0x57, 0xd1, 0, 0, 1, 1]);
  hello.writeUInt32LE(numbers.required, 12);
  hello.writeUInt32LE(numbers.maxPayload, 16);
  hello.writeUInt32LE(numbers.maxInFlight, 20);
  hello.writeUInt32LE(numbers.maxInFlightBytes, 24);
  hello.writeUInt32LE(1 << 16, 28);
  hello.writeInt32LE(status, 48);
  hello[52] = version;
  hello.fill(numbers.instance ?? 7, 56);
  const tails = tlvs.map(([tag, value]) => {
    const head = Buffer.alloc(4);
    head.writeUInt16LE(tag, 0);
    head.writeUInt16LE(value.length, 2);
    return Buffer.concat([head, Buffer.from(value)]);
  });
  const whole = Buffer.concat([hello, ...tails]);
  whole.writeUInt16LE(whole.length, 4);
  return whole;
}

/** Cuts frames off the front of what has come. */
export function* frames(state) {
  while (state.bytes.length >= HEADER) {
    const header = decodeHeader(state.bytes, 0);
    const end = HEADER + header.length;
    if (state.bytes.length < end) return;
    yield { ...header, payload: state.bytes.subarray(HEADER, end) };
    state.bytes = state.bytes.subarray(end);
  }
}

/**
 * A server that does what the test says: `onFrame(frame, send, socket)` for each frame; `send` takes a frame, or bytes. It
 * says hello as soon as there is one.
 */
export async function fake(t, onFrame, { hello = serverHello(), answersGoodbye = true } = {}) {
  const place = path.join(await folder(t), "fake.sock");
  const sockets = [];
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket);
    const state = { bytes: Buffer.alloc(0), isGreeted: false };
    const send = (what) => socket.write(Buffer.isBuffer(what) ? what : encodeFrame(what));
    socket.on("error", () => undefined);
    socket.on("data", (chunk) => {
      state.bytes = Buffer.concat([state.bytes, chunk]);
      if (!state.isGreeted && state.bytes.length >= 48) {
        state.isGreeted = true;
        state.bytes = state.bytes.subarray(state.bytes.readUInt16LE(4));
        if (hello) socket.write(hello);
      }
      if (!state.isGreeted) return;
      for (const frame of frames(state)) {
        if (frame.kind === Kind.GOODBYE && answersGoodbye) {
          send({ kind: Kind.GOODBYE, id: 0xffffffff });
          socket.end();
        } else onFrame?.(frame, send, socket);
      }
    });
  });
  server.listen(place);
  await once(server, "listening");
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { endpoint: `unix:${place}`, sockets };
}

/** Waits until something is so. */
export async function until(what, isSo) {
  const end = Date.now() + PATIENCE;
  while (!(await isSo())) {
    if (Date.now() > end) throw new Error(`never came true: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
