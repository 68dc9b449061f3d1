// What is public, with its types. Times are in milliseconds, sizes in bytes.
/// <reference types="node" />

/** What can be sent: text as UTF-8, bytes, or nothing. It is copied before the function returns. */
export type Payload = string | ArrayBufferView | ArrayBuffer | null | undefined;

/** Sidewire's own result codes. 0 is fine, those above 0 belong to the application. */
export declare const ResultCode: {
  readonly OK: 0;
  readonly UNKNOWN_TYPE: -1;
  readonly NO_HANDLER: -2;
  readonly TOO_LARGE: -3;
  readonly MALFORMED: -4;
  readonly NOT_PERMITTED: -5;
  readonly BUSY: -6;
  readonly TIMED_OUT: -7;
  readonly CANCELLED: -8;
  readonly SHUTTING_DOWN: -9;
  readonly HANDLER_FAILED: -10;
  readonly NO_COMMON_VERSION: -11;
  readonly FEATURE_MISSING: -12;
};

/**
 * The one error of this package; also what a handler throws to answer with a result code of its own:
 * `throw new SidewireError("not today", { rc: 7 })`.
 */
export declare class SidewireError extends Error {
  /** For a handler `rc`, and `payload` if the answer has bytes in place of the text. */
  constructor(
    message: string,
    details?: { rc?: number; code?: string; mayHaveBeenExecuted?: boolean; payload?: Buffer; cause?: unknown },
  );
  /** The result code, if there is one: the server's, or ours of the same meaning, as -7 when a time limit has passed. */
  readonly rc: number | undefined;
  /**
   * What went wrong. The result codes: `unknown-type`, `no-handler`, `too-large`, `malformed`, `not-permitted`, `busy`,
   * `timed-out`, `cancelled`, `shutting-down`, `handler-failed`, `no-common-version`, `feature-missing`, `application`
   * (above 0), `failed` (others, and what the system says). Without a reply: `not-listening` (nobody is there),
   * `refused` (by the server's policy or limits, or by the system), `gone` (the connection has ended), `closed` (by
   * us), `protocol` (the server has broken the rules, or speaks something else), `unsupported` (this system has no
   * such endpoints), `invalid-input` (what was asked makes no sense).
   */
  readonly code: string;
  /** `false`: the request behind this was certainly not executed, and will not be. */
  readonly mayHaveBeenExecuted: boolean;
  /** The bytes that came with a reply whose result code is not 0. */
  readonly payload: Buffer | undefined;
}

/** What this side takes and keeps. */
export interface Limits {
  /** Largest payload of one frame of the server's; a larger one ends the connection. 16 MiB. */
  maxPayload?: number;
  /** How many calls of the server's may be without an answer; as many notifies are handled at a time, others skipped. 256. */
  maxInFlight?: number;
  /** Payload bytes of these calls together. 16 MiB. */
  maxInFlightBytes?: number;
  /** Bytes of parts that the server may send ahead, for each stream. 64 KiB. */
  streamCredit?: number;
  /** Bytes of events that wait in one subscription; those beyond are dropped, and counted. 1 MiB. */
  eventQueue?: number;
  /** How many calls and notifies may wait to be sent; those beyond fail as `busy`. 65,536. */
  maxQueued?: number;
  /** Bytes of these together. 64 MiB. */
  maxQueuedBytes?: number;
}

export declare const DEFAULT_LIMITS: Readonly<Required<Limits>>;

/** How a client connects anew. */
export interface Reconnect {
  /** How many attempts may fail, one after the other, before it gives up. 20. */
  attempts?: number;
  /** How long after the first of them others may be made. 60,000. */
  within?: number;
  /** The pause behind the first that failed; each is twice as long as the one before, less up to a half at random. 50. */
  firstPause?: number;
  /** The longest pause. 5,000. */
  longestPause?: number;
}

export interface Reconnected {
  /** Whether it is not the server of before: it was started anew, or is another one, and may have another state. */
  restarted: boolean;
  /** How many attempts it took. */
  attempts: number;
  /** Why the connection before had ended. */
  reason: SidewireError;
}

export interface ConnectOptions {
  /**
   * Who may serve there. `same-user` (the default): on Unix a `unix:` socket and all folders above it must be such that only
   * this user and root can have put it there, and `local:` is looked for in private folders only. Other endpoints
   * don't tell who serves, and need a token, or `anyone`, which looks at nothing.
   */
  access?: "same-user" | "anyone";
  /** A key of 32 bytes that both sides prove that they know. */
  token?: Uint8Array;
  /** The file that holds it. On Unix nobody else may be allowed to read it; on Windows that is not looked at. */
  tokenFile?: string;
  /** What the server is told of this application; at most 128 bytes each are sent. */
  app?: { name?: string; version?: string };
  /** How long connecting may take, hellos included; 0: as long as it likes. 5,000. */
  connectTimeout?: number;
  /** The time limit of calls that have none of their own; 0: none. 30,000. */
  timeout?: number;
  limits?: Limits;
  /** Whether to connect anew when the connection has ended: `true`, or how. Off by default. */
  reconnect?: boolean | Reconnect;
  /** What the server may ask from the first moment on; as `Client.handle`, by type. */
  handlers?: Record<number, Handler>;
  /** Behind each new connection, but the first. */
  onReconnected?: (how: Reconnected) => void;
  /** When a connection has ended, or no more calls go over it, and this was not asked for. */
  onDisconnected?: (reason: SidewireError) => void;
  /** What a handler has thrown, unless it is an answer. Otherwise it is a warning of the process. */
  onHandlerError?: (error: unknown, type: number) => void;
}

export interface CallOptions {
  /** How long it may take; 0: as long as it likes. The server is told, too. */
  timeout?: number;
  /** Cancels the call, on the server as well. */
  signal?: AbortSignal;
  /** That executing it twice does no harm: after a lost connection it is sent again (see `reconnect`). */
  idempotent?: boolean;
}

/** What the server asks. */
export interface IncomingRequest {
  type: number;
  /** How long the server waits; 0: it does not say. */
  timeout: number;
  /** Aborted when nobody needs the answer any more. */
  signal: AbortSignal;
}

/** Answers a call of the server's, at once or later. See `SidewireError` for other answers than success. */
export type Handler = (payload: Buffer, request: IncomingRequest) => Payload | void | Promise<Payload | void>;

/** Something that the server has told those who had subscribed. */
export interface TopicEvent {
  topic: number;
  /** Its number within the subscription, from 1 on; 1 follows 4,294,967,295. */
  number: number;
  /** How many events of this topic were dropped since the one before, because they came faster than they were taken. */
  dropped: number;
  payload: Buffer;
  /**
   * Of the first event over a new connection: whether the server is still the same. How many were missed in between nobody
   * knows, and numbers begin anew.
   */
  renewal: "same-server" | "restarted" | undefined;
}

/** The events of a topic. Leaving a loop over them unsubscribes. */
export interface Events extends AsyncIterableIterator<TopicEvent> {
  readonly topic: number;
  /** Unsubscribes, and resolves when the server has answered. */
  close(): Promise<void>;
  return(value?: unknown): Promise<IteratorResult<TopicEvent>>;
}

/**
 * The parts of a reply. The loop ends behind the last one; if the call has failed, by throwing. Leaving it before that
 * cancels the call. What is taken slowly comes slowly.
 */
export interface Parts extends AsyncIterableIterator<Buffer> {
  /** What the final reply says besides, behind the last part. */
  readonly reply: Buffer | undefined;
  return(value?: unknown): Promise<IteratorResult<Buffer>>;
}

/** What the server says of itself; of `software` and `app` nobody proves anything. */
export interface ServerInfo {
  software: string | undefined;
  app: { name: string | undefined; version: string | undefined };
  /** Hash of its contract, hexadecimal. */
  contract: string | undefined;
  /** Another one with each start. */
  instance: string;
  limits: { maxPayload: number; maxInFlight: number; maxInFlightBytes: number };
}

/** A server's description of its messages and events: see docs/protocol/connecting.md, "Describing". */
export interface Description {
  format: 1;
  app?: { name?: string; version?: string };
  contract?: string;
  messages?: Array<Record<string, unknown>>;
  asks?: Array<Record<string, unknown>>;
  events?: Array<Record<string, unknown>>;
  $defs?: Record<string, unknown>;
  [member: string]: unknown;
}

/** A connection to a server, or one after the other. From `connect`. It keeps the process alive until it is closed. */
export interface Client {
  /** Of the server that it is or was connected to last. */
  readonly server: ServerInfo;
  /** Resolves when there is no connection and will be none: to the reason, or to `undefined` behind `close`. */
  readonly closed: Promise<SidewireError | undefined>;

  /**
   * Sends a request to the handler of this type (0 to 65,535), and resolves to what it replies. Many may be under way at a
   * time; they are sent in the order of the calls.
   * Rejects with a `SidewireError`, as well if the server's result code is not 0.
   */
  call(type: number, payload?: Payload, options?: CallOptions): Promise<Buffer>;

  /**
   * Sends a request that gets no reply, so that nobody knows whether it was executed. Resolves when it has left, so whoever
   * sends many waits for that; who does not, hears of no failure.
   */
  notify(type: number, payload?: Payload): Promise<void>;

  /** A call whose reply comes in parts. Its `timeout` is for each part, and the whole may take as long as it likes. */
  stream(type: number, payload?: Payload, options?: CallOptions): Parts;

  /** Subscribes to a topic; resolves when the server has answered. Several may subscribe to the same one. */
  subscribe(topic: number, options?: Omit<CallOptions, "idempotent">): Promise<Events>;

  /** What answers the server's calls and takes its notifies of this type; without a handler, nothing does any more. */
  handle(type: number, handler?: Handler): void;

  /** Asks for a sign of life, and resolves to how long it took. `timeout`: 5,000 unless it says otherwise. */
  ping(options?: { timeout?: number }): Promise<number>;

  /** What the server says of its messages and events, if it does; otherwise it rejects with `unknown-type` or `no-handler`. */
  describe(options?: Omit<CallOptions, "idempotent">): Promise<Description>;

  /**
   * Says goodbye, behind all that was called or notified before, waits for the answers and the server's goodbye, and closes.
   * After `timeout` (2,000; 0: at once) it closes all the same, and what is not answered fails as `closed`.
   */
  close(options?: { timeout?: number }): Promise<void>;
}

/**
 * Connects to a server: `local:NAME`, `unix:/path`, `abstract:NAME` (Linux, Node.js 22 and later), `pipe:NAME` (Windows) or
 * `tcp:HOST:PORT`. Rejects with a `SidewireError`.
 */
export declare function connect(endpoint: string, options?: ConnectOptions): Promise<Client>;
