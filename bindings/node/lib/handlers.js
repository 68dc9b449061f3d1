// What the server may ask this program.

import { toBytes } from "./call.js";
import { ResultCode, SidewireError, cutText } from "./error.js";

const LONGEST_TEXT = 1024;

/** What a handler that has thrown answers. Texts of other errors may say what the server should not know. */
function failure(error) {
  if (!(error instanceof SidewireError) || !Number.isInteger(error.rc) || error.rc === 0 || error.rc !== (error.rc | 0)) {
    return { rc: ResultCode.HANDLER_FAILED };
  }
  if (error.payload !== undefined) return { rc: error.rc, payload: toBytes(error.payload), isText: false };
  return { rc: error.rc, payload: cutText(error.message, LONGEST_TEXT), isText: true };
}

export class Handlers {
  #handlers = new Map();
  /** Calls that are being answered, by connection and id. */
  #running = new Map();
  #notifies = 0;
  #limit;
  #onError;

  /** `limit`: how many notifies are handled at a time; `onError(error, type)` hears of handlers that throw. */
  constructor(limit, onError) {
    this.#limit = limit;
    this.#onError = onError;
  }

  set(type, handler) {
    if (handler) this.#handlers.set(type, handler);
    else this.#handlers.delete(type);
  }

  request({ id, type, timeout, payload }, connection) {
    const handler = this.#handlers.get(type);
    if (!handler) return connection.protocol.answer(id, { rc: ResultCode.NO_HANDLER });
    const running = this.#of(connection);
    const controller = new AbortController();
    const end = (answer) => {
      if (running.get(id) !== call) return; // it has been answered before
      running.delete(id);
      clearTimeout(call.timer);
      connection.protocol.answer(id, answer);
      connection.flush();
    };
    const giveUp = (rc) => {
      end({ rc });
      controller.abort();
    };
    const late = () => giveUp(ResultCode.TIMED_OUT);
    const call = { giveUp, controller, timer: timeout > 0 ? setTimeout(late, timeout) : undefined };
    running.set(id, call);
    this.#run(handler, payload, { type, timeout, signal: controller.signal }).then(
      (reply) => end({ rc: 0, payload: reply }),
      (error) => end(failure(error)),
    );
  }

  /** A handler's reply, as bytes. */
  async #run(handler, payload, request) {
    try {
      return toBytes(await handler(payload, request));
    } catch (error) {
      if (failure(error).rc === ResultCode.HANDLER_FAILED) this.#tell(error, request.type);
      throw error;
    }
  }

  /** Nothing bounds how many come, so some are skipped if they come faster than they are handled. */
  notify({ type, payload }) {
    const handler = this.#handlers.get(type);
    if (!handler || this.#notifies >= this.#limit) return;
    this.#notifies += 1;
    const request = { type, timeout: 0, signal: new AbortController().signal };
    (async () => handler(payload, request))()
      .catch((error) => this.#tell(error, type))
      .finally(() => (this.#notifies -= 1));
  }

  cancelled({ id }, connection) {
    this.#running.get(connection)?.get(id)?.giveUp(ResultCode.CANCELLED);
  }

  /** The connection has ended: nobody waits for the answers. */
  ended(connection) {
    for (const { controller, timer } of this.#running.get(connection)?.values() ?? []) {
      clearTimeout(timer);
      controller.abort();
    }
    this.#running.delete(connection);
  }

  #of(connection) {
    const running = this.#running.get(connection) ?? new Map();
    this.#running.set(connection, running);
    return running;
  }

  #tell(error, type) {
    try {
      this.#onError(error, type);
    } catch {
      // whoever is told of errors has no right to make more
    }
  }
}
