// The numbers that a user may set.

import { invalid } from "./error.js";

const U32 = 0xffffffff;
const I32 = 0x7fffffff;

/** What this side takes and keeps, in bytes unless it says otherwise. */
export const DEFAULT_LIMITS = Object.freeze({
  /** Largest payload of one frame that the server may send. */
  maxPayload: 16 * 1024 * 1024,
  /** Calls of the server that may be without an answer; a number. */
  maxInFlight: 256,
  /** Payload bytes of these together. */
  maxInFlightBytes: 16 * 1024 * 1024,
  /** What the parts of one reply may spend before the program has taken some. */
  streamCredit: 64 * 1024,
  /** Events of one subscription that wait for the program; what comes beyond that is dropped, and counted. */
  eventQueue: 1024 * 1024,
  /** Calls and notifies that wait to be sent; a number. */
  maxQueued: 65536,
  /** Payload bytes of these together. */
  maxQueuedBytes: 64 * 1024 * 1024,
});

function whole(what, value, most) {
  if (!Number.isInteger(value) || value < 0 || value > most) {
    throw invalid(`${what} is a whole number from 0 to ${most}, and not ${String(value)}`);
  }
  return value;
}

export function takeLimits(limits = {}) {
  const taken = { ...DEFAULT_LIMITS };
  for (const [name, value] of Object.entries(limits)) {
    if (!Object.hasOwn(DEFAULT_LIMITS, name)) throw invalid(`there is no limit ${name}`);
    if (value !== undefined) taken[name] = whole(name, value, name === "streamCredit" ? I32 : U32);
  }
  return taken;
}

/** A time in milliseconds; 0 is none. */
export const takeTimeout = (value, standard) => whole("a timeout in milliseconds", value ?? standard, I32);
export const takeType = (value) => whole("a type", value, 0xffff);
