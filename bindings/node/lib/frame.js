// Frames: 16 bytes of header, little-endian, and a payload.

export const HEADER = 16;

export const Kind = Object.freeze({
  REQUEST: 1,
  REPLY: 2,
  NOTIFY: 3,
  EVENT: 4,
  SUBSCRIBE: 5,
  UNSUBSCRIBE: 6,
  CANCEL: 7,
  CREDIT: 8,
  PING: 9,
  PONG: 10,
  AUTH: 11,
  GOODBYE: 12,
});

/** Kinds from here on are extensions to come: skipped. */
const FIRST_EXTENSION = 128;
export const isKind = (kind) => (kind >= Kind.REQUEST && kind <= Kind.GOODBYE) || kind >= FIRST_EXTENSION;

export const Flag = Object.freeze({ MORE: 1, EXT: 2, TEXT: 4 });
export const RESERVED_FLAGS = 0xff & ~(Flag.MORE | Flag.EXT | Flag.TEXT);

/** A whole frame, with a copy of the payload. */
export function encodeFrame({ kind, flags = 0, type = 0, id = 0, rc = 0, payload }) {
  const length = payload?.length ?? 0;
  const frame = Buffer.allocUnsafe(HEADER + length);
  frame.writeUInt32LE(length, 0);
  frame[4] = kind;
  frame[5] = flags;
  frame.writeUInt16LE(type, 6);
  frame.writeUInt32LE(id, 8);
  frame.writeInt32LE(rc, 12);
  if (length > 0) frame.set(payload, HEADER);
  return frame;
}

export function decodeHeader(bytes, at) {
  return {
    length: bytes.readUInt32LE(at),
    kind: bytes[at + 4],
    flags: bytes[at + 5],
    type: bytes.readUInt16LE(at + 6),
    id: bytes.readUInt32LE(at + 8),
    rc: bytes.readInt32LE(at + 12),
  };
}

/**
 * `{ payload }`, what stands behind an extension block; or `{ fault }`: it does not fit its own lengths (`malformed`),
 * or has a tag that must be understood (`missing`), since none is.
 */
export function behindExtension(payload) {
  if (payload.length < 2) return { fault: "malformed" };
  const end = 2 + payload.readUInt16LE(0);
  if (end > payload.length) return { fault: "malformed" };
  let must = false;
  for (let at = 2; at < end; ) {
    if (at + 4 > end) return { fault: "malformed" };
    must ||= (payload.readUInt16LE(at) & 0x8000) !== 0;
    at += 4 + payload.readUInt16LE(at + 2);
    if (at > end) return { fault: "malformed" };
  }
  return must ? { fault: "missing" } : { payload: payload.subarray(end) };
}

/** How many bytes of credit a part costs. */
export const partCost = (length) => Math.max(1, length);

/** Whether id `a` comes behind id `b` in a count of 32 bits that wraps around. */
export function isBehind(a, b) {
  const ahead = (a - b) >>> 0;
  return ahead > 0 && ahead <= 0x7fffffff;
}
