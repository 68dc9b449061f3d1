// One request of the program, from its beginning to its one outcome.

import { ResultCode, SidewireError, codeName, invalid, shown } from "./error.js";
import { encodeFrame } from "./frame.js";

/** What a program may give as a payload, as bytes. */
export function toBytes(value) {
  if (value === undefined || value === null) return Buffer.alloc(0);
  if (typeof value === "string") return Buffer.from(value, "utf8");
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (value instanceof ArrayBuffer) return Buffer.from(value);
  throw invalid("a payload is a string, a Buffer or another view of bytes, an ArrayBuffer, or nothing");
}

/** A reply whose rc is not 0, as an error. */
function answered({ rc, isText, payload }) {
  const text = isText ? `: ${shown(payload)}` : "";
  const message = `the server answered ${codeName(rc)} (${rc})${text}`;
  return new SidewireError(message, { rc, payload, mayHaveBeenExecuted: true });
}

export class Call {
  // What lib/protocol.js looks at.
  kind;
  type;
  frame;
  deadline;
  takesParts = false;
  id;

  isIdempotent;
  /** Whether it makes no sense over another connection. */
  isForThisConnection;
  /** The connection that it was given to last. */
  connection;
  /** Whether an earlier connection may have had it executed. */
  mayHaveBeenExecuted = false;
  hasParts = false;
  #outcome;
  #timer;
  #signal;
  #onAbort;

  /** `outcome` has `done(payload)`, `fail(error)`, and `part(payload, cost)` if parts are taken. */
  constructor({ kind, type, payload, isIdempotent = false, isForThisConnection = false }, outcome) {
    this.kind = kind;
    this.type = type;
    this.frame = encodeFrame({ kind, type, payload: toBytes(payload) });
    this.isIdempotent = isIdempotent;
    this.isForThisConnection = isForThisConnection;
    this.takesParts = Boolean(outcome.part);
    this.#outcome = outcome;
  }

  get isOver() {
    return this.#outcome === undefined;
  }

  /** Has `giveUp(error)` called when `signal` is aborted or so many milliseconds have passed, unless it is over by then. */
  watch({ timeout, signal, now }, giveUp) {
    if (timeout > 0) {
      this.deadline = now + timeout;
      const late = () => giveUp(new SidewireError(`no reply within ${timeout} ms`, { rc: ResultCode.TIMED_OUT }));
      this.#timer = setTimeout(late, timeout);
    }
    if (!signal) return;
    this.#signal = signal;
    this.#onAbort = () => giveUp(Call.cancelled(signal));
    signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  static cancelled(signal) {
    return new SidewireError("the call was cancelled", { rc: ResultCode.CANCELLED, cause: signal?.reason });
  }

  part(payload, cost) {
    this.hasParts = true;
    this.#outcome?.part(payload, cost);
  }

  reply(reply) {
    if (reply.rc === 0) this.#end()?.done(reply.payload);
    else this.#end()?.fail(answered(reply));
  }

  /** A notify has left. */
  isSent() {
    this.#end()?.done();
  }

  fail(error, mayHaveBeenExecuted = false) {
    this.#end()?.fail(SidewireError.about(error, this.mayHaveBeenExecuted || mayHaveBeenExecuted));
  }

  #end() {
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener("abort", this.#onAbort);
    const outcome = this.#outcome;
    this.#outcome = undefined;
    return outcome;
  }
}
