// Bytes as they come, cut into units whose length is known by and by.

const NOTHING = Buffer.alloc(0);

/**
 * What has come and was not taken. Memory grows with what has come, not with what was announced: twice as much at
 * most, so that neither many small pieces nor a large announcement cost more.
 */
export class Input {
  #bytes = NOTHING;
  #start = 0;
  #end = 0;
  #isOwn = false;

  get length() {
    return this.#end - this.#start;
  }

  /** Takes in what has come; `chunk` may be kept until the next call only, so the rest has to be `settle`d. */
  push(chunk) {
    if (this.length === 0) {
      this.#bytes = chunk;
      this.#start = 0;
      this.#end = chunk.length;
      this.#isOwn = false;
      return;
    }
    const needed = this.length + chunk.length;
    if (this.#end + chunk.length > this.#bytes.length) this.#move(Math.max(needed, 2 * this.length));
    chunk.copy(this.#bytes, this.#end);
    this.#end += chunk.length;
  }

  /** So many bytes from the front, without taking them. They are good until the next `push` or `settle`. */
  peek(count) {
    return this.#bytes.subarray(this.#start, this.#start + count);
  }

  skip(count) {
    this.#start += count;
  }

  /** Nothing more is taken for now: what is left gets memory of its own. */
  settle() {
    if (this.length === 0) this.clear();
    else if (!this.#isOwn) this.#move(this.length);
  }

  clear() {
    this.#bytes = NOTHING;
    this.#start = 0;
    this.#end = 0;
  }

  #move(size) {
    const bytes = Buffer.allocUnsafeSlow(size);
    const length = this.#bytes.copy(bytes, 0, this.#start, this.#end);
    this.#bytes = bytes;
    this.#start = 0;
    this.#end = length;
    this.#isOwn = true;
  }
}
