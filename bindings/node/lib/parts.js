// The parts of one reply, as they come.

import { ResultCode, SidewireError } from "./error.js";
import { Ended, Queue } from "./queue.js";

/**
 * An async iterator. Its hooks are `giveBack(cost)`, which lets the server send so much more, and `giveUp(error)`.
 */
export class Parts {
  #queue = new Queue();
  #hooks;
  #credit;
  #timeout;
  /** Credit of parts that were taken and that was not given back yet. */
  #taken = 0;
  /** What the final reply says, when all parts were taken. */
  reply;

  constructor({ timeout, credit }, hooks) {
    this.#timeout = timeout;
    this.#credit = credit;
    this.#hooks = hooks;
  }

  /** What the call tells, see lib/call.js. */
  get outcome() {
    return {
      part: (payload, cost) => this.#queue.push({ payload, cost }),
      done: (payload) => this.#queue.end({ value: payload }),
      fail: (error) => this.#queue.end({ error }),
    };
  }

  async next() {
    const taken = await this.#takeInTime();
    if (taken instanceof Ended) {
      this.reply ??= taken.value;
      return { done: true, value: taken.value };
    }
    this.#taken += taken.cost;
    // Half of what the call began with: the server need not stop, and is not told of each part.
    if (2 * this.#taken >= this.#credit) {
      this.#hooks.giveBack(this.#taken);
      this.#taken = 0;
    }
    return { done: false, value: taken.payload };
  }

  async #takeInTime() {
    if (!this.#timeout || !this.#queue.isEmpty || this.#queue.hasEnded) return this.#queue.take();
    const late = () => {
      const text = `no part of the reply within ${this.#timeout} ms`;
      this.#hooks.giveUp(new SidewireError(text, { rc: ResultCode.TIMED_OUT }));
    };
    const timer = setTimeout(late, this.#timeout);
    try {
      return await this.#queue.take();
    } finally {
      clearTimeout(timer);
    }
  }

  /** Leaves: the call is cancelled, unless it is over. */
  async return(value) {
    this.#queue.clear();
    this.#queue.end();
    this.#hooks.giveUp(new SidewireError("nobody takes the parts", { rc: ResultCode.CANCELLED }));
    return { done: true, value };
  }

  [Symbol.asyncIterator]() {
    return this;
  }
}
