// When a client whose connection has ended connects anew. No sockets, no clock: times are milliseconds.

import { ResultCode, invalid } from "./error.js";

export const DEFAULT_RULES = Object.freeze({ attempts: 20, within: 60_000, firstPause: 50, longestPause: 5000 });

export function takeRules(reconnect) {
  if (!reconnect) return undefined;
  const rules = { ...DEFAULT_RULES };
  for (const [name, value] of Object.entries(reconnect === true ? {} : reconnect)) {
    if (!Object.hasOwn(DEFAULT_RULES, name)) throw invalid(`reconnect knows no ${name}`);
    if (typeof value !== "number" || !(value >= 0)) throw invalid(`reconnect.${name} is a number from 0 on`);
    rules[name] = value;
  }
  return rules;
}

export class Outage {
  #rules;
  #random;
  #since = 0;
  #began;
  #failed = 0;

  constructor(rules, random = Math.random) {
    this.#rules = rules;
    this.#random = random;
  }

  get failed() {
    return this.#failed;
  }

  connected(now) {
    this.#since = now;
  }

  /**
   * The connection has ended. How long to wait before the next attempt; `undefined`: there is to be none. One that lasted no
   * longer than the longest pause counts as an attempt that failed: a server that lets everybody in and then ends is no
   * better than none.
   */
  ended(now) {
    if (this.#began !== undefined && now - this.#since <= this.#rules.longestPause) return this.attemptFailed(now);
    this.#began = now;
    this.#failed = 0;
    return 0;
  }

  /** The same behind an attempt. Pauses double, and are shortened at random by up to a half: not all come back at once. */
  attemptFailed(now) {
    this.#failed += 1;
    const { attempts, within, firstPause, longestPause } = this.#rules;
    const whole = Math.min(firstPause * 2 ** Math.min(this.#failed - 1, 31), Math.max(firstPause, longestPause));
    const pause = whole / 2 + (whole / 2) * this.#random();
    const isOver = this.#failed >= attempts || this.#began + within < now + pause;
    return isOver ? undefined : pause;
  }
}

const AGAIN = new Set(["not-listening", "gone", "timed-out", "failed"]);
const AGAIN_LATER = new Set([ResultCode.BUSY, ResultCode.SHUTTING_DOWN]);

/** Whether another attempt may end differently than with this error. */
export const isWorthTrying = ({ code, rc }) => AGAIN.has(code) || (code === "refused" && AGAIN_LATER.has(rc));
