// One connection of a client, without socket or clock: bytes and time go in, events and bytes come out.
//
// Whoever owns the socket gives `receive` what he has read, asks `pull` for what to write whenever the socket takes
// something, and calls `tick` when `deadline` has passed. What these return is to be handled in order. Times are
// milliseconds of a clock that only goes forward.
//
// Events, by their `event`:
//   open { hello }                       the hellos are exchanged; from now on there may be requests
//   reply { owner, rc, isText, payload } the end of a call
//   part { owner, payload, cost }        a part of its reply, whose cost is to be given back with `giveBack`
//   lost { owner, isSent, mayHaveBeenExecuted, error }   a call that will have no reply, or a notify that was not sent
//   topic { type, number, dropped, payload }   an event of a topic
//   request { id, type, timeout, payload }     the server asks: `answer` it
//   notify { type, payload }
//   cancelled { id }                     the server does not need the answer any more
//   pong { id }                          answers the ping of this id, and all before it
//   goodbye { rc, error }                the server asks no more; calls that it has taken are still answered
//   end { error }                        that was all; the last event

import { ResultCode, SidewireError, codeName, shown } from "./error.js";
import {
  Flag, HEADER, Kind, RESERVED_FLAGS, behindExtension, decodeHeader, encodeFrame, isBehind, isKind, partCost,
} from "./frame.js";
import { encodeHello, helloLength, parseHello, prove } from "./hello.js";
import { Input } from "./input.js";

const PARTIAL_FRAME_TIMEOUT = 10_000;
const LAST_ID = 0xffffffff;

/** What ends the connection, since the server has broken a rule. */
class Fatal extends Error {
  constructor(rc, message) {
    super(message);
    this.rc = rc;
  }
}

export class Protocol {
  #limits;
  #token;
  #ourHello;
  /** `opening`, `open`, `leaving` (our goodbye is behind all that waits to be sent), `ended`. */
  #phase = "opening";
  /** The server's goodbye, as an error for those whom it concerns. */
  #farewell;
  #theirs;
  #input = new Input();
  #partialSince;

  /** Our calls without a reply, by id; those included that nobody waits for any more, which have no owner. */
  #calls = new Map();
  #callBytes = 0;
  #lastId;
  /** The server's calls until our answer has left, by id. */
  #asked = new Map();
  #askedBytes = 0;
  #lastAsked = 0;

  /** The rest of a frame of which a part has left. */
  #rest;
  #control = [];
  /** Credit to be given, by call. */
  #credits = new Map();
  #pong;
  #lastPing = 0;
  /** What waits to be sent, in order: calls and notifies, and perhaps a goodbye. */
  #queue = new Set();
  #queuedBytes = 0;

  constructor({ limits, nonce, app, software, token, firstId = 1 }) {
    this.#limits = limits;
    this.#token = token;
    this.#lastId = firstId - 1;
    this.#ourHello = encodeHello({ limits, nonce, app, software });
    this.#control.push({ bytes: this.#ourHello });
  }

  // What comes in.

  receive(chunk, now) {
    const events = [];
    if (this.#phase === "ended") return events;
    this.#input.push(chunk);
    try {
      if (this.#phase === "opening") this.#takeHello(events);
      if (this.#phase !== "opening") this.#takeFrames(events, now);
    } catch (error) {
      if (error instanceof Fatal) this.#fail(error, events);
      else if (error instanceof SidewireError) this.#finish(error, events);
      else throw error;
    }
    if (this.#phase === "ended") this.#input.clear();
    else this.#input.settle();
    return events;
  }

  /** The end of what the server says. */
  end() {
    const events = [];
    if (this.#phase === "ended") return events;
    const gone = this.#phase === "opening" ? "the server has closed the connection without a hello" : "the server has gone";
    this.#finish(this.#farewell ?? new SidewireError(gone, { code: "gone" }), events);
    return events;
  }

  /** We go without another word: because of this error. */
  abandon(error) {
    const events = [];
    if (this.#phase !== "ended") this.#finish(error, events);
    return events;
  }

  /** When `tick` is to be called. */
  deadline() {
    const isNone = this.#phase === "ended" || this.#partialSince === undefined;
    return isNone ? Infinity : this.#partialSince + PARTIAL_FRAME_TIMEOUT;
  }

  tick(now) {
    const events = [];
    if (this.#phase !== "ended" && now >= this.deadline()) {
      this.#fail(new Fatal(ResultCode.TIMED_OUT, "a frame took longer than 10 s"), events);
    }
    return events;
  }

  #takeHello(events) {
    if (this.#input.length < 8) return;
    const length = helloLength(this.#input.peek(8));
    if (this.#input.length < length) return;
    const answer = Buffer.from(this.#input.peek(length));
    this.#input.skip(length);
    const hello = parseHello(answer);
    if (this.#token) {
      const proof = prove(this.#token, this.#ourHello, answer, hello.proof);
      this.#control.push({ bytes: encodeFrame({ kind: Kind.AUTH, payload: proof }) });
    } else if (hello.proof) {
      throw new SidewireError("the server asks for a token", { rc: ResultCode.NOT_PERMITTED, code: "not-permitted" });
    }
    if (hello.missing) throw new Fatal(ResultCode.FEATURE_MISSING, hello.missing);
    this.#theirs = hello.limits;
    this.#phase = "open";
    events.push({ event: "open", hello });
  }

  #takeFrames(events, now) {
    const before = this.#input.length;
    while (this.#takeFrame(events));
    if (this.#input.length === 0) this.#partialSince = undefined;
    else if (this.#input.length < before || this.#partialSince === undefined) this.#partialSince = now;
  }

  #takeFrame(events) {
    if (this.#phase === "ended" || this.#input.length < HEADER) return false;
    const header = decodeHeader(this.#input.peek(HEADER), 0);
    if (!isKind(header.kind)) throw new Fatal(ResultCode.MALFORMED, `there is no kind ${header.kind}`);
    if (header.flags & RESERVED_FLAGS) throw new Fatal(ResultCode.MALFORMED, `flags ${header.flags} are reserved`);
    if (header.length > this.#limits.maxPayload) {
      throw new Fatal(ResultCode.TOO_LARGE, `a frame of ${header.length} bytes, and ${this.#limits.maxPayload} are taken`);
    }
    if (this.#input.length < HEADER + header.length) return false;
    const payload = Buffer.from(this.#input.peek(HEADER + header.length).subarray(HEADER));
    this.#input.skip(HEADER + header.length);
    this.#take(header, payload, events);
    return true;
  }

  #take(header, payload, events) {
    switch (header.kind) {
      case Kind.REPLY:
        return this.#takeReply(header, payload, events);
      case Kind.EVENT:
        return this.#takeEvent(header, payload, events);
      case Kind.REQUEST:
      case Kind.SUBSCRIBE:
      case Kind.UNSUBSCRIBE:
        return this.#takeRequest(header, payload, events);
      case Kind.NOTIFY:
        return this.#takeNotify(header, payload, events);
      case Kind.CANCEL:
        if (this.#asked.get(header.id)?.isAnswered === false) events.push({ event: "cancelled", id: header.id });
        return;
      case Kind.CREDIT: // our answers have no parts
        if (header.length !== 4) throw new Fatal(ResultCode.MALFORMED, `a credit of ${header.length} bytes`);
        return;
      case Kind.PING: // one pong for all that come before it leaves
        this.#pong = header.id;
        return;
      case Kind.PONG:
        events.push({ event: "pong", id: header.id });
        return;
      case Kind.GOODBYE:
        return this.#takeGoodbye(header, payload, events);
      default: // auth, and extensions to come
    }
  }

  #takeReply({ id, type, flags, rc, length }, bytes, events) {
    const call = this.#calls.get(id);
    if (call?.type !== type) {
      throw new Fatal(ResultCode.MALFORMED, `a reply to nothing that was asked (id ${id}, type ${type})`);
    }
    const { fault, payload } = flags & Flag.EXT ? behindExtension(bytes) : { payload: bytes };
    if (fault) throw new Fatal(ResultCode.MALFORMED, `a reply with an extension that is not understood (id ${id})`);
    if (flags & Flag.MORE) {
      if (call.credit <= 0) throw new Fatal(ResultCode.MALFORMED, `a part of a reply without credit (id ${id})`);
      const cost = partCost(length);
      call.credit -= cost;
      // Whoever wants no parts throws them away at once; whoever has gone has cancelled.
      if (call.owner?.takesParts) events.push({ event: "part", owner: call.owner, payload, cost });
      else if (call.owner) this.#giveCredit(call, cost);
      return;
    }
    this.#forget(call);
    if (call.owner) {
      events.push({ event: "reply", owner: call.owner, rc, isText: rc !== 0 && (flags & Flag.TEXT) !== 0, payload });
    }
  }

  #takeEvent({ type, id, flags, rc }, bytes, events) {
    if (flags & (Flag.MORE | Flag.TEXT)) return;
    const { fault, payload } = flags & Flag.EXT ? behindExtension(bytes) : { payload: bytes };
    if (!fault) events.push({ event: "topic", type, number: id, dropped: Math.max(0, rc), payload });
  }

  #takeRequest({ kind, id, type, flags, rc, length }, bytes, events) {
    const rises = id !== 0 && (this.#lastAsked === 0 || isBehind(id, this.#lastAsked)) && !this.#asked.has(id);
    if (!rises) throw new Fatal(ResultCode.MALFORMED, `id ${id} does not rise`);
    if (this.#phase === "leaving" || this.#farewell) return; // it has crossed our goodbye, or should not be
    if (this.#asked.size >= this.#limits.maxInFlight) throw new Fatal(ResultCode.BUSY, "more calls than the hello allows");
    if (this.#askedBytes + length > this.#limits.maxInFlightBytes) {
      throw new Fatal(ResultCode.BUSY, "more bytes in calls than the hello allows");
    }
    this.#lastAsked = id;
    this.#askedBytes += length;
    this.#asked.set(id, { type, bytes: length, isAnswered: false });
    const { fault, payload } = flags & Flag.EXT ? behindExtension(bytes) : { payload: bytes };
    if (rc < 0 || flags & Flag.TEXT) this.answer(id, { rc: ResultCode.MALFORMED });
    else if (flags & Flag.MORE) this.answer(id, { rc: ResultCode.NO_HANDLER });
    else if (fault) this.answer(id, { rc: fault === "missing" ? ResultCode.FEATURE_MISSING : ResultCode.MALFORMED });
    else if (kind !== Kind.REQUEST) this.answer(id, { rc: ResultCode.NO_HANDLER }); // a client has no topics
    else events.push({ event: "request", id, type, timeout: rc, payload });
  }

  #takeNotify({ type, flags }, bytes, events) {
    if (flags & (Flag.MORE | Flag.TEXT) || this.#phase === "leaving" || this.#farewell) return;
    const { fault, payload } = flags & Flag.EXT ? behindExtension(bytes) : { payload: bytes };
    if (!fault) events.push({ event: "notify", type, payload });
  }

  #takeGoodbye({ id: lastTaken, flags, rc }, payload, events) {
    if (this.#farewell) return;
    const text = flags & Flag.TEXT ? `: ${shown(payload)}` : "";
    const why = rc === 0 ? "" : ` (${codeName(rc)}, ${rc})`;
    const error = new SidewireError(`the server has said goodbye${why}${text}`, { rc: rc || undefined, code: "gone" });
    this.#farewell = error;
    for (const call of [...this.#calls.values()]) {
      if (lastTaken !== 0 && !isBehind(call.id, lastTaken)) continue;
      this.#forget(call);
      if (call.owner) events.push({ event: "lost", owner: call.owner, isSent: true, mayHaveBeenExecuted: false, error });
    }
    this.#dropQueue(error, events);
    events.push({ event: "goodbye", rc, error });
    this.goodbye();
  }

  // What goes out.

  get isOpen() {
    return this.#phase === "open" && !this.#farewell;
  }

  /** Whether nothing more is to come: both have said goodbye, and nobody waits for an answer. */
  get isDone() {
    const waits = () => [...this.#calls.values()].some((call) => call.owner);
    return Boolean(this.#farewell) && !this.hasOutput && this.#asked.size === 0 && !waits();
  }

  get hasOutput() {
    const { size } = this.#credits;
    return this.#rest !== undefined || this.#control.length > 0 || size > 0 || this.#pong !== undefined || this.#mayStart();
  }

  /** Why a request with so much payload can't be sent to this server, if so. */
  objection(length) {
    const { maxPayload, maxInFlight, maxInFlightBytes } = this.#theirs;
    const most = Math.min(maxPayload, maxInFlightBytes);
    if (length > most) {
      return new SidewireError(`a payload of ${length} bytes, and the server takes ${most}`, { rc: ResultCode.TOO_LARGE });
    }
    return maxInFlight > 0 ? undefined : new SidewireError("the server takes no calls", { rc: ResultCode.BUSY });
  }

  /** Whether so many more bytes may wait to be sent. */
  hasRoomFor(length) {
    const { maxQueued, maxQueuedBytes } = this.#limits;
    return this.#queue.size === 0 || (this.#queue.size < maxQueued && this.#queuedBytes + length <= maxQueuedBytes);
  }

  /**
   * Queues a call or a notify, whose answer is its `owner`'s: an object of the caller's with `kind`, `type`, `frame` (whole
   * but for id and time limit), `deadline` (a time, or undefined) and `takesParts`.
   */
  send(owner) {
    this.#queue.add(owner);
    this.#queuedBytes += owner.frame.length;
  }

  /** Nobody waits for this call any more. Says whether it had left. */
  cancel(owner) {
    if (this.#queue.delete(owner)) {
      this.#queuedBytes -= owner.frame.length;
      return false;
    }
    const call = this.#calls.get(owner.id);
    if (call?.owner !== owner) return false;
    call.owner = undefined;
    this.#credits.delete(call.id);
    if (this.#phase !== "ended") this.#control.push({ bytes: encodeFrame({ kind: Kind.CANCEL, id: call.id }) });
    return true;
  }

  /** The program has taken parts that cost so much. */
  giveBack(owner, cost) {
    const call = this.#calls.get(owner.id);
    if (call?.owner === owner) this.#giveCredit(call, cost);
  }

  /** Answers a call of the server's, unless that has been done. */
  answer(id, { rc, payload, isText = false }) {
    const asked = this.#asked.get(id);
    if (!asked || asked.isAnswered || this.#phase === "ended") return;
    asked.isAnswered = true;
    const most = this.#theirs.maxPayload;
    let reply = { rc, payload, flags: rc !== 0 && isText ? Flag.TEXT : 0 };
    if (payload && payload.length > most) reply = { rc: rc || ResultCode.TOO_LARGE, flags: 0 };
    this.#control.push({ bytes: encodeFrame({ kind: Kind.REPLY, type: asked.type, id, ...reply }), answers: id });
  }

  /** Asks for a sign of life; gives the id that its pong will have. */
  ping() {
    this.#lastPing = this.#lastPing === LAST_ID ? 1 : this.#lastPing + 1;
    this.#control.push({ bytes: encodeFrame({ kind: Kind.PING, id: this.#lastPing }) });
    return this.#lastPing;
  }

  /** No more requests, behind those that are queued. */
  goodbye() {
    if (this.#phase !== "open") return;
    this.#phase = "leaving";
    this.#queue.add({ kind: Kind.GOODBYE });
  }

  /** The next bytes to write, at most so many. `undefined`: there are none for now. */
  pull(now, most) {
    const pieces = [];
    let size = 0;
    while (size < most) {
      const piece = this.#rest ?? this.#next(now);
      if (!piece) break;
      const taken = piece.subarray(0, most - size);
      this.#rest = taken.length < piece.length ? piece.subarray(taken.length) : undefined;
      pieces.push(taken);
      size += taken.length;
    }
    if (pieces.length <= 1) return pieces[0];
    return Buffer.concat(pieces, size);
  }

  #next(now) {
    if (this.#control.length > 0) {
      const { bytes, answers } = this.#control.shift();
      if (answers !== undefined) this.#release(answers);
      return bytes;
    }
    for (const [id, amount] of this.#credits) {
      this.#credits.delete(id);
      const payload = Buffer.alloc(4);
      payload.writeUInt32LE(amount, 0);
      return encodeFrame({ kind: Kind.CREDIT, id, payload });
    }
    if (this.#mayStart()) return this.#start(now);
    if (this.#pong === undefined) return undefined;
    const id = this.#pong;
    this.#pong = undefined;
    return encodeFrame({ kind: Kind.PONG, id });
  }

  #first() {
    return this.#queue.values().next().value;
  }

  /** Whether the first that is queued may leave now, by what the server has allowed. */
  #mayStart() {
    if (this.#queue.size === 0 || (this.#phase !== "open" && this.#phase !== "leaving")) return false;
    const first = this.#first();
    if (first.kind === Kind.NOTIFY || first.kind === Kind.GOODBYE) return true;
    const { maxInFlight, maxInFlightBytes } = this.#theirs;
    return this.#calls.size < maxInFlight && this.#callBytes + first.frame.length - HEADER <= maxInFlightBytes;
  }

  #start(now) {
    const owner = this.#first();
    this.#queue.delete(owner);
    if (owner.kind === Kind.GOODBYE) return encodeFrame({ kind: Kind.GOODBYE, id: this.#lastAsked });
    this.#queuedBytes -= owner.frame.length;
    const { frame } = owner;
    if (owner.kind === Kind.NOTIFY) {
      owner.isSent?.();
      return frame;
    }
    const id = this.#nextId();
    const timeout = owner.deadline === undefined ? 0 : Math.max(1, Math.ceil(owner.deadline - now));
    frame.writeUInt32LE(id, 8);
    frame.writeInt32LE(timeout, 12);
    owner.id = id;
    const bytes = frame.length - HEADER;
    this.#calls.set(id, { id, type: owner.type, bytes, credit: this.#limits.streamCredit, owner });
    this.#callBytes += bytes;
    return frame;
  }

  /** The count goes on behind 4,294,967,295 with 1, and passes over calls that are still open. */
  #nextId() {
    do {
      this.#lastId = this.#lastId === LAST_ID ? 1 : this.#lastId + 1;
    } while (this.#calls.has(this.#lastId));
    return this.#lastId;
  }

  #giveCredit(call, amount) {
    call.credit += amount;
    this.#credits.set(call.id, (this.#credits.get(call.id) ?? 0) + amount);
  }

  #forget(call) {
    this.#calls.delete(call.id);
    this.#credits.delete(call.id);
    this.#callBytes -= call.bytes;
  }

  #release(id) {
    this.#askedBytes -= this.#asked.get(id).bytes;
    this.#asked.delete(id);
  }

  // How it ends.

  /** The server has broken a rule: it is told so, and that is all. */
  #fail({ rc, message }, events) {
    const payload = Buffer.from(message);
    const goodbye = { kind: Kind.GOODBYE, flags: Flag.TEXT, id: this.#lastAsked, rc, payload };
    const code = rc === ResultCode.TIMED_OUT ? "gone" : "protocol";
    const text = rc === ResultCode.TIMED_OUT ? "the server is too slow" : "the server has broken the protocol";
    this.#finish(new SidewireError(`${text}: ${message}`, { rc, code }), events);
    this.#control.push({ bytes: encodeFrame(goodbye) });
  }

  #finish(error, events) {
    this.#phase = "ended";
    for (const { owner } of this.#calls.values()) {
      if (owner) events.push({ event: "lost", owner, isSent: true, mayHaveBeenExecuted: true, error });
    }
    this.#calls.clear();
    this.#asked.clear();
    this.#control = [];
    this.#credits.clear();
    this.#pong = undefined;
    this.#dropQueue(error, events);
    events.push({ event: "end", error });
  }

  #dropQueue(error, events) {
    for (const owner of this.#queue) {
      if (owner.kind === Kind.GOODBYE) continue; // that is still to be said
      this.#queue.delete(owner);
      events.push({ event: "lost", owner, isSent: false, mayHaveBeenExecuted: false, error });
    }
    this.#queuedBytes = 0;
  }
}
