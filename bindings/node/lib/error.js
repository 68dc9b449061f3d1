// The one error of this package, and what result codes are called.

/** Sidewire's own result codes, by name. Positive codes belong to the application. */
export const ResultCode = Object.freeze({
  OK: 0,
  UNKNOWN_TYPE: -1,
  NO_HANDLER: -2,
  TOO_LARGE: -3,
  MALFORMED: -4,
  NOT_PERMITTED: -5,
  BUSY: -6,
  TIMED_OUT: -7,
  CANCELLED: -8,
  SHUTTING_DOWN: -9,
  HANDLER_FAILED: -10,
  NO_COMMON_VERSION: -11,
  FEATURE_MISSING: -12,
});

const names = new Map(
  Object.entries(ResultCode).map(([name, rc]) => [rc, name.toLowerCase().replaceAll("_", "-")]),
);

/** What a result code is called: `timed-out`, `no-handler`; `application` if it is positive, `failed` if unknown. */
export function codeName(rc) {
  return names.get(rc) ?? (rc > 0 ? "application" : "failed");
}

// What a terminal would act on.
const CONTROL = /[\p{Cc}\p{Cf}\u2028\u2029]/gu;
const LONGEST = 1024;

/** A text that the other side has chosen, as UTF-8, fit to be shown: escaped, and cut. */
export function shown(bytes) {
  const text = bytes.toString("utf8", 0, LONGEST).replace(CONTROL, (char) => `\\u{${char.codePointAt(0).toString(16)}}`);
  return bytes.length > LONGEST ? `${text}…` : text;
}

/** A text as UTF-8, of so many bytes at most, cut between two characters. */
export function cutText(text, most) {
  const bytes = Buffer.from(text, "utf8");
  let length = Math.min(bytes.length, most);
  while (length < bytes.length && length > 0 && (bytes[length] & 0xc0) === 0x80) length -= 1;
  return bytes.subarray(0, length);
}

export class SidewireError extends Error {
  constructor(message, { rc, code, mayHaveBeenExecuted = false, payload, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "SidewireError";
    this.rc = rc;
    this.code = code ?? (rc === undefined ? "failed" : codeName(rc));
    this.mayHaveBeenExecuted = mayHaveBeenExecuted;
    this.payload = payload;
  }

  /** The same, said of one request: errors of a connection are shared by all that it had under way. Its cause stays. */
  static about(error, mayHaveBeenExecuted) {
    const { message, rc, code, payload } = error;
    return new SidewireError(message, { rc, code, mayHaveBeenExecuted, payload, cause: error.cause ?? error });
  }
}

export const invalid = (message) => new SidewireError(message, { code: "invalid-input" });
export const refusedByUs = (message) =>
  new SidewireError(message, { rc: ResultCode.NOT_PERMITTED, code: "not-permitted" });
