// Async iterators over what comes without being asked for one by one.

/** Values in order, and an end behind them; who comes early waits. */
export class Queue {
  #values = [];
  #first = 0;
  #waiting = [];
  /** `undefined`: none yet. */
  #end;

  get isEmpty() {
    return this.#first === this.#values.length;
  }

  get hasEnded() {
    return this.#end !== undefined;
  }

  push(value) {
    if (this.#end) return;
    const waiting = this.#waiting.shift();
    if (waiting) waiting.resolve(value);
    else this.#values.push(value);
  }

  /** No more values. `error`: those who wait when all were taken get it, the first of them. `value`: what the end says. */
  end({ error, value } = {}) {
    if (this.#end) return;
    this.#end = { error, value };
    for (const { resolve, reject } of this.#waiting.splice(0)) {
      try {
        resolve(this.#takeEnd());
      } catch (thrown) {
        reject(thrown);
      }
    }
  }

  /** Throws away what waits, and what the end has to say. */
  clear() {
    this.#values = [];
    this.#first = 0;
    if (this.#end) this.#end = {};
  }

  /** The next value, or an `Ended`. Throws the error of the end, once. */
  async take() {
    if (!this.isEmpty) return this.#shift();
    if (this.#end) return this.#takeEnd();
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  #shift() {
    const value = this.#values[this.#first];
    this.#values[this.#first] = undefined;
    this.#first += 1;
    if (this.#first === this.#values.length || this.#first > 1024) {
      this.#values.splice(0, this.#first);
      this.#first = 0;
    }
    return value;
  }

  #takeEnd() {
    const { error, value } = this.#end;
    if (error) {
      this.#end = {};
      throw error;
    }
    return new Ended(value);
  }
}

/** What comes behind the last value. */
export class Ended {
  constructor(value) {
    this.value = value;
  }
}
