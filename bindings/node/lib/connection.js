// A socket, driven by what lib/protocol.js says.

import { randomBytes } from "node:crypto";
import net from "node:net";
import { performance } from "node:perf_hooks";

import { notListening, places, takeToken } from "./endpoint.js";
import { ResultCode, SidewireError } from "./error.js";
import { Protocol } from "./protocol.js";

/** Bytes given to the socket at a time: so much more may wait there, the rest waits in the protocol. */
const CHUNK = 64 * 1024;
const WRITE_STALL_TIMEOUT = 30_000;
/** How long the server may take to close its side when all is said. */
const LINGER = 2000;
const SOFTWARE = "sidewire-node/0.1.0";

export const now = () => performance.now();

export class Connection {
  protocol;
  /** Resolves when the socket is closed, and all events were handed on. */
  closed;
  /** Whether the hellos were exchanged. */
  isOpen = false;
  #socket;
  #onEvent;
  #error;
  #isScheduled = false;
  #isBlocked = false;
  #isOver = false;
  #timer;
  #stall;

  /** `onEvent(event, connection)` gets each event of the protocol, in order. */
  constructor(socket, protocol, onEvent) {
    this.#socket = socket;
    this.protocol = protocol;
    this.#onEvent = onEvent;
    this.closed = new Promise((resolve) => {
      socket.once("close", () => {
        clearTimeout(this.#timer);
        clearTimeout(this.#stall);
        this.#handle(this.#error ? protocol.abandon(this.#broken()) : protocol.end());
        resolve();
      });
    });
    socket.on("data", (chunk) => this.#handle(protocol.receive(chunk, now())));
    socket.on("end", () => this.#handle(protocol.end()));
    socket.on("error", (error) => (this.#error = error));
    socket.on("drain", () => {
      this.#isBlocked = false;
      this.#pump();
    });
    this.flush();
  }

  /** Writes what there is to be written, behind all that happens in this turn of the event loop. */
  flush() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    process.nextTick(() => {
      this.#isScheduled = false;
      this.#pump();
    });
  }

  /** Says goodbye, and resolves when the connection has ended; after so many milliseconds it is ended. */
  async close(timeout) {
    this.protocol.goodbye();
    this.flush();
    const late = new SidewireError("the client was closed", { code: "closed" });
    const timer = setTimeout(() => this.destroy(late), timeout);
    await this.closed;
    clearTimeout(timer);
  }

  destroy(error) {
    this.#handle(this.protocol.abandon(error));
    this.#socket.destroy();
  }

  #broken() {
    const { code, message } = this.#error;
    return new SidewireError(`the connection has broken: ${code ?? message}`, { code: "gone", cause: this.#error });
  }

  #handle(events) {
    for (const event of events) {
      if (event.event === "end") {
        this.#isOver = true;
        if (this.#isBlocked) this.#limit(LINGER); // who is only to hear our last word has less time for it
      }
      this.#onEvent(event, this);
    }
    this.flush();
    const deadline = this.protocol.deadline();
    if (this.#timer === undefined && deadline !== Infinity && !this.#socket.destroyed) {
      this.#timer = setTimeout(() => {
        this.#timer = undefined;
        this.#handle(this.protocol.tick(now()));
      }, Math.max(1, Math.ceil(deadline - now())));
    }
  }

  #pump() {
    if (this.#isBlocked) return;
    while (!this.#isBlocked && this.#socket.writable) {
      const bytes = this.protocol.pull(now(), CHUNK);
      if (!bytes) break;
      this.#isBlocked = !this.#socket.write(bytes);
    }
    if (this.#isBlocked) {
      this.#limit(this.#isOver ? LINGER : WRITE_STALL_TIMEOUT);
    } else if (this.#socket.writable && (this.#isOver || this.protocol.isDone)) {
      this.#socket.end();
      this.#limit(LINGER);
    } else if (this.#socket.writable) {
      clearTimeout(this.#stall);
    }
  }

  /** The server may take so long to read what there is, or to close its side. */
  #limit(time) {
    clearTimeout(this.#stall);
    if (this.#socket.destroyed) return;
    const text = "the server takes nothing any more";
    const late = () => this.destroy(new SidewireError(text, { rc: ResultCode.TIMED_OUT, code: "gone" }));
    this.#stall = setTimeout(late, time);
  }
}

function dial(place, signal) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ ...place });
    const stop = () => socket.destroy(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    const fail = (error) => {
      signal.removeEventListener("abort", stop);
      reject(error);
    };
    socket.once("error", fail);
    socket.once("connect", () => {
      signal.removeEventListener("abort", stop);
      socket.off("error", fail);
      resolve(socket);
    });
  });
}

const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));

/** A Unix server whose backlog is full says "try again"; nothing tells when. */
async function dialPatiently(place, signal) {
  for (let time = 1; ; time = Math.min(2 * time, 100)) {
    try {
      return await dial(place, signal);
    } catch (error) {
      if (error.code !== "EAGAIN" || signal.aborted) throw error;
      await pause(time);
      if (signal.aborted) throw signal.reason;
    }
  }
}

/** Connects to the first of these places where somebody listens. */
async function dialOne(found, name, signal) {
  let absent;
  for (const place of found) {
    try {
      return await dialPatiently(place, signal);
    } catch (error) {
      if (error instanceof SidewireError) throw error;
      absent = notListening(name, error);
      if (absent.code !== "not-listening") throw absent;
    }
  }
  throw absent;
}

function greet(socket, protocol, onEvent, signal) {
  return new Promise((resolve, reject) => {
    const connection = new Connection(
      socket,
      protocol,
      (event) => {
        if (event.event === "open") {
          signal.removeEventListener("abort", stop);
          connection.isOpen = true;
        }
        // Nobody is told of one that has not come about, but who waits for it here.
        if (connection.isOpen) onEvent(event, connection);
        if (event.event === "open") resolve(connection);
        else if (event.event === "end") {
          signal.removeEventListener("abort", stop);
          reject(event.error);
        }
      },
    );
    const stop = () => connection.destroy(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
  });
}

/**
 * Connects, and exchanges hellos, within the settings' time limit. `onEvent(event, connection)` gets all events from
 * `open` on; `signal` ends the attempt.
 */
export async function open(settings, onEvent, signal) {
  const { endpoint, name, limits, app, access, connectTimeout } = settings;
  const attempt = new AbortController();
  const stop = () => attempt.abort(signal.reason);
  if (signal.aborted) throw signal.reason;
  signal.addEventListener("abort", stop, { once: true });
  const late = () => {
    const text = `${name}: no connection within ${connectTimeout} ms`;
    attempt.abort(new SidewireError(text, { rc: ResultCode.TIMED_OUT }));
  };
  const timer = connectTimeout > 0 ? setTimeout(late, connectTimeout) : undefined;
  try {
    const token = await takeToken(settings);
    const found = await places(endpoint, { access, hasToken: token !== undefined });
    if (attempt.signal.aborted) throw attempt.signal.reason;
    const socket = await dialOne(found, name, attempt.signal);
    const protocol = new Protocol({ limits, app, token, software: SOFTWARE, nonce: randomBytes(16) });
    return await greet(socket, protocol, onEvent, attempt.signal);
  } catch (error) {
    throw error instanceof SidewireError ? error : notListening(name, error);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}
