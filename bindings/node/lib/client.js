// The client that a program has.

import { Call } from "./call.js";
import { now, open } from "./connection.js";
import { parseEndpoint } from "./endpoint.js";
import { ResultCode, SidewireError, invalid } from "./error.js";
import { HEADER, Kind, isBehind } from "./frame.js";
import { Handlers } from "./handlers.js";
import { takeLimits, takeTimeout, takeType } from "./limits.js";
import { Parts } from "./parts.js";
import { Outage, isWorthTrying, takeRules } from "./reconnect.js";
import { Topics } from "./topics.js";

const CONNECT_TIMEOUT = 5000;
const CALL_TIMEOUT = 30_000;
const CLOSE_TIMEOUT = 2000;
const LONGEST_TIMER = 0x7fffffff;
/** The type that asks a server to describe itself, and the form of descriptions that is known. */
const DESCRIPTION = 0xffff;
const FORMAT = 1;

const closedByUs = () => new SidewireError("the client is closed", { code: "closed" });
const warn = (error, type) =>
  process.emitWarning(`sidewire: the handler of type ${type} failed: ${error?.stack ?? String(error)}`);

function takeSettings(name, options) {
  const { access = "same-user", app, token, tokenFile } = options;
  if (access !== "same-user" && access !== "anyone") throw invalid('access is "same-user" or "anyone"');
  for (const text of [app?.name, app?.version]) {
    if (text !== undefined && typeof text !== "string") throw invalid("an application's name and version are texts");
  }
  return {
    name,
    endpoint: parseEndpoint(name),
    access,
    app,
    token,
    tokenFile,
    limits: takeLimits(options.limits),
    connectTimeout: takeTimeout(options.connectTimeout, CONNECT_TIMEOUT),
    callTimeout: takeTimeout(options.timeout, CALL_TIMEOUT),
    rules: takeRules(options.reconnect),
    onReconnected: options.onReconnected,
    onDisconnected: options.onDisconnected,
  };
}

/** A program's own function may throw, which is none of the connection's business. */
function tell(listener, what) {
  try {
    listener?.(what);
  } catch (error) {
    process.emitWarning(`sidewire: a listener failed: ${error?.stack ?? String(error)}`);
  }
}

export class Client {
  #settings;
  /** Where calls go; `undefined` between two connections, and in the end. */
  #connection;
  /** All that have not ended: those as well over which only answers still come. */
  #connections = new Set();
  /** What waits for the next connection, in order. */
  #backlog = new Set();
  #backlogBytes = 0;
  #outage;
  /** Why there will be no other connection. */
  #ending;
  #stopping = new AbortController();
  #resolveClosed;
  #topics;
  #handlers;
  #pings = new Set();

  /** What the server has said of itself: of the last one. */
  server;
  /** Resolves when there is no connection any more and will be none: to why, or to nothing behind `close`. */
  closed = new Promise((resolve) => (this.#resolveClosed = resolve));

  constructor(settings, onHandlerError = warn) {
    this.#settings = settings;
    this.#handlers = new Handlers(settings.limits.maxInFlight, onHandlerError);
    this.#topics = new Topics(settings.limits.eventQueue, (...what) => this.#askTopic(...what));
    if (settings.rules) this.#outage = new Outage(settings.rules);
  }

  static async connect(endpoint, options = {}) {
    const client = new Client(takeSettings(endpoint, options), options.onHandlerError);
    for (const [type, handler] of Object.entries(options.handlers ?? {})) client.handle(Number(type), handler);
    await open(client.#settings, (...event) => client.#take(...event), client.#stopping.signal);
    return client;
  }

  // What a program asks.

  async call(type, payload, options = {}) {
    return this.#ask({ kind: Kind.REQUEST, type: takeType(type), payload, isIdempotent: options.idempotent }, options);
  }

  notify(type, payload) {
    const left = new Promise((done, fail) => {
      this.#begin(new Call({ kind: Kind.NOTIFY, type: takeType(type), payload }, { done, fail }), {});
    });
    left.catch(() => undefined); // who does not ask what became of it need not be told
    return left;
  }

  stream(type, payload, options = {}) {
    const timeout = takeTimeout(options.timeout, this.#settings.callTimeout);
    let call;
    const parts = new Parts(
      { timeout, credit: this.#settings.limits.streamCredit },
      {
        giveBack: (cost) => {
          call.connection?.protocol.giveBack(call, cost);
          call.connection?.flush();
        },
        giveUp: (error) => this.#giveUp(call, error),
      },
    );
    const what = { kind: Kind.REQUEST, type: takeType(type), payload, isIdempotent: options.idempotent };
    call = new Call(what, parts.outcome);
    this.#begin(call, { signal: options.signal });
    return parts;
  }

  async subscribe(topic, options = {}) {
    return this.#topics.subscribe(takeType(topic), options);
  }

  handle(type, handler) {
    if (handler !== undefined && typeof handler !== "function") throw invalid("a handler is a function");
    this.#handlers.set(takeType(type), handler);
  }

  async ping({ timeout } = {}) {
    const time = takeTimeout(timeout, CONNECT_TIMEOUT);
    const connection = this.#connection;
    if (!connection) throw this.#ending ?? new SidewireError("there is no connection now", { code: "gone" });
    const began = now();
    const id = connection.protocol.ping();
    connection.flush();
    return new Promise((resolve, reject) => {
      const late = () => {
        this.#pings.delete(ping);
        reject(new SidewireError(`no sign of life within ${time} ms`, { rc: ResultCode.TIMED_OUT }));
      };
      const timer = time > 0 ? setTimeout(late, time) : undefined;
      const ping = { id, connection, timer, reject, resolve: () => resolve(now() - began) };
      this.#pings.add(ping);
    });
  }

  async describe(options) {
    const bytes = await this.call(DESCRIPTION, undefined, { ...options, idempotent: true });
    let description;
    try {
      description = JSON.parse(bytes.toString("utf8"));
    } catch (cause) {
      throw new SidewireError("the server's description can't be read", { code: "protocol", cause });
    }
    if (description?.format !== FORMAT) {
      throw new SidewireError("the server's description has a form that is not known", { code: "protocol" });
    }
    return description;
  }

  async close({ timeout = CLOSE_TIMEOUT } = {}) {
    const time = takeTimeout(timeout, CLOSE_TIMEOUT);
    this.#conclude(closedByUs());
    await Promise.all([...this.#connections].map((connection) => connection.close(time)));
  }

  #ask(what, options, onDone) {
    const timeout = takeTimeout(options.timeout, this.#settings.callTimeout);
    return new Promise((resolve, reject) => {
      const done = (payload) => {
        onDone?.();
        resolve(payload);
      };
      this.#begin(new Call(what, { done, fail: reject }), { timeout, signal: options.signal });
    });
  }

  async #askTopic(what, topic, options, onDone) {
    // Between two connections nobody is subscribed.
    if (what === "unsubscribe" && !this.#connection) return;
    const asked = { subscribe: { kind: Kind.SUBSCRIBE, isIdempotent: true }, unsubscribe: { kind: Kind.UNSUBSCRIBE } };
    const { isForThisConnection } = options;
    await this.#ask({ ...asked[what], type: topic, isForThisConnection }, options, onDone);
  }

  // How a call goes.

  #begin(call, { timeout = 0, signal }) {
    if (signal?.aborted) return call.fail(Call.cancelled(signal));
    call.watch({ timeout, signal, now: now() }, (error) => this.#giveUp(call, error));
    this.#send(call);
  }

  #send(call) {
    const connection = this.#connection;
    if (connection) {
      const { protocol } = connection;
      const error = protocol.objection(call.frame.length - HEADER);
      if (error) return call.fail(error);
      if (!protocol.hasRoomFor(call.frame.length)) return call.fail(this.#full());
      call.connection = connection;
      protocol.send(call);
      connection.flush();
    } else if (this.#ending) {
      call.fail(this.#ending);
    } else {
      this.#keep(call);
    }
  }

  /** For the next connection. */
  #keep(call) {
    const { maxQueued, maxQueuedBytes } = this.#settings.limits;
    const bytes = this.#backlogBytes + call.frame.length;
    const isFull = this.#backlog.size >= maxQueued || bytes > maxQueuedBytes;
    if (this.#backlog.size > 0 && isFull) return call.fail(this.#full());
    call.connection = undefined;
    this.#backlog.add(call);
    this.#backlogBytes = bytes;
  }

  #full() {
    return new SidewireError("too much waits to be sent", { rc: ResultCode.BUSY });
  }

  #giveUp(call, error) {
    if (call.isOver) return;
    if (this.#backlog.delete(call)) this.#backlogBytes -= call.frame.length;
    const hadLeft = call.connection?.protocol.cancel(call) ?? false;
    call.connection?.flush();
    call.fail(error, hadLeft);
  }

  /** What has not left, or was certainly not executed, or may be executed twice, goes over the next connection. */
  #lost({ owner: call, isSent, mayHaveBeenExecuted, error }, connection) {
    if (call.isOver) return;
    const isSafe = !call.isForThisConnection && (!mayHaveBeenExecuted || (call.isIdempotent && !call.hasParts));
    if (!isSafe || !this.#outage || this.#ending) return call.fail(error, mayHaveBeenExecuted);
    call.mayHaveBeenExecuted ||= mayHaveBeenExecuted;
    if (isSent) call.frame = Buffer.from(call.frame); // the old one's bytes may still be on their way, with the old id
    if (this.#connection === connection) this.#keep(call);
    else this.#send(call);
  }

  // What happens.

  #take(event, connection) {
    switch (event.event) {
      case "reply":
        return event.owner.reply(event);
      case "part":
        return event.owner.part(event.payload, event.cost);
      case "topic":
        return connection === this.#connection ? this.#topics.take(event) : undefined;
      case "request":
        return this.#handlers.request(event, connection);
      case "notify":
        return this.#handlers.notify(event);
      case "cancelled":
        return this.#handlers.cancelled(event, connection);
      case "pong":
        return this.#pong(event.id, connection);
      case "lost":
        return this.#lost(event, connection);
      case "open":
        return this.#opened(event.hello, connection);
      case "goodbye":
        return this.#leave(event.error, connection);
      default:
        return this.#ended(event.error, connection);
    }
  }

  #pong(id, connection) {
    for (const ping of this.#pings) {
      if (ping.connection !== connection || isBehind(ping.id, id)) continue;
      this.#pings.delete(ping);
      clearTimeout(ping.timer);
      ping.resolve();
    }
  }

  #opened(hello, connection) {
    const before = this.server;
    const { software, app, contract, instance, limits } = hello;
    this.server = { software, app, contract, instance, limits };
    this.#connections.add(connection);
    this.#connection = connection;
    this.#outage?.connected(now());
    // First, so that what the others do is told to those who listen.
    if (before) this.#topics.renew(before.instance === instance ? "same-server" : "restarted");
    const waiting = [...this.#backlog];
    this.#backlog.clear();
    this.#backlogBytes = 0;
    for (const call of waiting) this.#send(call);
  }

  /** No more calls over this connection; answers may still come. */
  #leave(error, connection) {
    if (this.#connection !== connection) return;
    this.#connection = undefined;
    this.#dropPings(error, connection);
    if (this.#ending) return;
    tell(this.#settings.onDisconnected, error);
    if (this.#outage && isWorthTrying(error)) this.#reconnect(error);
    else this.#conclude(error);
  }

  #dropPings(error, connection) {
    for (const ping of this.#pings) {
      if (ping.connection !== connection) continue;
      this.#pings.delete(ping);
      clearTimeout(ping.timer);
      ping.reject(error);
    }
  }

  #ended(error, connection) {
    this.#leave(error, connection);
    this.#dropPings(error, connection);
    this.#handlers.ended(connection);
    this.#connections.delete(connection);
    this.#settle();
  }

  async #reconnect(reason) {
    const { signal } = this.#stopping;
    let attempts = 0;
    let pause = this.#outage.ended(now());
    let error = reason;
    while (pause !== undefined) {
      await this.#sleep(pause);
      if (this.#ending) return;
      attempts += 1;
      const before = this.server.instance;
      try {
        await open(this.#settings, (...event) => this.#take(...event), signal);
        return tell(this.#settings.onReconnected, { restarted: this.server.instance !== before, attempts, reason });
      } catch (failed) {
        if (this.#ending) return;
        error = failed;
        if (!isWorthTrying(error)) return this.#conclude(error);
        pause = this.#outage.attemptFailed(now());
      }
    }
    const text = `no connection after ${this.#outage.failed} attempts: ${error.message}`;
    this.#conclude(new SidewireError(text, { rc: error.rc, code: error.code, cause: error }));
  }

  #sleep(time) {
    const { signal } = this.#stopping;
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", end);
        resolve();
      };
      const timer = setTimeout(end, Math.min(time, LONGEST_TIMER));
      signal.addEventListener("abort", end, { once: true });
    });
  }

  /** There will be no other connection. */
  #conclude(error) {
    if (this.#ending) return;
    this.#ending = error;
    this.#stopping.abort(error);
    for (const call of this.#backlog) call.fail(error);
    this.#backlog.clear();
    this.#topics.end(error.code === "closed" ? undefined : error);
    // What was asked is still answered, but nothing more is asked.
    this.#connection = undefined;
    this.#settle();
  }

  #settle() {
    if (!this.#ending || this.#connections.size > 0) return;
    this.#resolveClosed(this.#ending.code === "closed" ? undefined : this.#ending);
  }
}
