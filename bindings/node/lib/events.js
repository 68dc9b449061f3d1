// The events of one topic, as they come.

import { Ended, Queue } from "./queue.js";

/** What an event costs in the queue besides its payload. */
const OVERHEAD = 128;

/** An async iterator. `leave` unsubscribes. */
export class Events {
  topic;
  #queue = new Queue();
  #limit;
  #leave;
  #bytes = 0;
  #dropped = 0;
  #renewal;

  constructor(topic, limit, leave) {
    this.topic = topic;
    this.#limit = limit;
    this.#leave = leave;
  }

  /** One more has come. What finds no room is counted. */
  push({ number, dropped, payload }) {
    const bytes = payload.length + OVERHEAD;
    this.#dropped += dropped;
    if (this.#bytes > 0 && this.#bytes + bytes > this.#limit) {
      this.#dropped += 1;
      return;
    }
    this.#bytes += bytes;
    this.#queue.push({ topic: this.topic, number, dropped: this.#dropped, payload, renewal: this.#renewal });
    this.#dropped = 0;
    this.#renewal = undefined;
  }

  /** The subscription was renewed over another connection: nobody knows how many were missed. */
  renewed(renewal) {
    this.#renewal = renewal;
    this.#dropped = 0;
  }

  end(error) {
    this.#queue.end({ error });
  }

  async next() {
    const event = await this.#queue.take();
    if (event instanceof Ended) return { done: true, value: undefined };
    this.#bytes -= event.payload.length + OVERHEAD;
    return { done: false, value: event };
  }

  /** Unsubscribes, and resolves when the server has said that it knows. */
  async close() {
    this.#queue.clear();
    this.#queue.end();
    await this.#leave(this);
  }

  async return(value) {
    this.close().catch(() => undefined); // whoever leaves a loop has no use for that, nor waits for it
    return { done: true, value };
  }

  [Symbol.asyncIterator]() {
    return this;
  }
}
