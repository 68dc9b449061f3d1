// Where to connect: what an endpoint's text means, and on Unix whether what is there can be trusted.

import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { lstat, open, readFile, readlink, realpath } from "node:fs/promises";
import path from "node:path";

import { SidewireError, invalid, refusedByUs } from "./error.js";

const UNIX_NAME_MAX = 107;
const PIPE_NAME_MAX = 256;
const LOCAL_NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/;
const TOKEN_LENGTH = 32;
const isWindows = process.platform === "win32";

/** What a text says, not yet whether this system has it. Throws if it is no endpoint. */
export function parseEndpoint(text) {
  if (typeof text !== "string") throw invalid("an endpoint is a text such as local:com.example.app");
  const colon = text.indexOf(":");
  const scheme = text.slice(0, Math.max(0, colon));
  const rest = text.slice(colon + 1);
  const wrong = (why) => invalid(`${JSON.stringify(text)} is no endpoint: ${why}`);
  if (/\p{Cc}/u.test(rest)) throw wrong("it has a control character in it");
  if (rest.trim() !== rest) throw wrong("it begins or ends with white space");
  if (rest.startsWith("//")) throw wrong("it is no URL; write it without //");
  switch (scheme) {
    case "unix":
      if (!rest.startsWith("/")) throw wrong("a socket's path begins at the root");
      if (rest.endsWith("/")) throw wrong("this names a folder");
      if (Buffer.byteLength(rest) > UNIX_NAME_MAX) throw wrong(`a socket's path has at most ${UNIX_NAME_MAX} bytes`);
      return { scheme, path: rest };
    case "abstract":
      if (rest === "" || Buffer.byteLength(rest) > UNIX_NAME_MAX) throw wrong(`a name has 1 to ${UNIX_NAME_MAX} bytes`);
      return { scheme, name: rest };
    case "local":
      if (!LOCAL_NAME.test(rest) || rest.endsWith(".")) {
        throw wrong("a local name has 1 to 64 letters, digits, '.', '_' and '-', none of '.' and '-' first, no '.' last");
      }
      return { scheme, name: rest };
    case "pipe":
      if (rest === "" || rest.includes("/") || rest.length + "\\\\.\\pipe\\".length > PIPE_NAME_MAX) {
        throw wrong("a pipe's name has no '/', and is not as long");
      }
      return { scheme, name: rest };
    case "tcp":
      return { scheme, ...hostAndPort(rest, wrong) };
    default:
      throw wrong("it begins with local:, unix:, abstract:, pipe: or tcp:");
  }
}

function hostAndPort(rest, wrong) {
  const found = /^(?:\[([0-9A-Fa-f:.]+(?:%[^\]]+)?)\]|([^:[\]\s]+)):([0-9]{1,5})$/.exec(rest);
  const port = Number(found?.[3]);
  if (!found || port < 1 || port > 65535) throw wrong("it is tcp:HOST:PORT, an IPv6 address in brackets");
  return { host: found[1] ?? found[2], port };
}

/**
 * Whether abstract names are what they should be: with libuv from 1.48 on, which Node.js 22 has. Before that it pads them
 * with NULs (Node.js 20), or takes them all for the empty name (18), and so would meet anybody.
 */
export function hasAbstractNames(version = process.versions.uv) {
  const [major, minor] = version.split(".").map(Number);
  return process.platform === "linux" && (major > 1 || minor >= 48);
}

const unsupported = (what) => new SidewireError(what, { code: "unsupported" });

/**
 * The places at which the server may be, for net.connect, in the order in which they are to be tried. Throws if who serves
 * there can't be known and `access` does not say that it may be anyone.
 */
export async function places(endpoint, { access, hasToken }) {
  const isForAnyone = access === "anyone";
  const trust = (what) => {
    if (!isForAnyone && !hasToken) {
      throw refusedByUs(`${what}: who serves there can't be known without a token; say access: "anyone" if that is meant`);
    }
  };
  switch (endpoint.scheme) {
    case "tcp":
      trust("tcp:");
      return [{ host: endpoint.host, port: endpoint.port, autoSelectFamily: true, noDelay: true }];
    case "abstract":
      if (!hasAbstractNames()) throw unsupported("abstract: works on Linux, with Node.js 22 and later (libuv 1.48)");
      trust("abstract:");
      return [{ path: `\0${endpoint.name}` }];
    case "pipe":
      if (!isWindows) throw unsupported("pipe: works on Windows");
      trust("pipe:");
      return [{ path: `\\\\.\\pipe\\${endpoint.name}` }];
    case "unix":
      if (isWindows) throw unsupported("unix: does not work on Windows");
      return [{ path: isForAnyone ? endpoint.path : await ownSocket(endpoint.path) }];
    default:
      if (!isWindows) return localPlaces(endpoint.name);
      trust("local:");
      return [{ path: `\\\\.\\pipe\\sidewire-${await userSid()}-${endpoint.name}` }];
  }
}

// Unix: whose socket it is.

let overflowUid;

/** The uid that stands for all users without one in this user namespace: nobody in particular. */
async function nobody() {
  overflowUid ??= readFile("/proc/sys/kernel/overflowuid", "utf8").then(Number, () => 65534);
  return overflowUid;
}

async function isOurs(uid) {
  return uid === 0 || (uid === process.geteuid() && uid !== (await nobody()));
}

const GROUP_AND_OTHERS = 0o022;
const STICKY = 0o1000;

/**
 * The path of a socket that nobody but this user and root can have put there. Its owner is who has bound it; whoever may
 * write to a folder above could have put another in its place, and whose a link among these folders is, who may lead it
 * elsewhere: so none is in what is given. Node.js can't ask the system who serves (SO_PEERCRED).
 */
async function ownSocket(given) {
  const refuse = (what, why) =>
    refusedByUs(`${what} ${why}, so who serves there can't be known; say access: "anyone" if that is meant`);
  const absent = (error) => {
    throw notListening(`unix:${given}`, error);
  };
  const parent = await realpath(path.dirname(given)).catch(absent);
  const socket = path.join(parent, path.basename(given));
  if (Buffer.byteLength(socket) > UNIX_NAME_MAX) throw invalid(`${socket} is too long for a socket's path`);
  const found = await lstat(socket).catch(absent);
  if (found.isSymbolicLink()) throw refuse(socket, "is a symbolic link");
  if (!found.isSocket()) throw invalid(`${socket} is no socket`);
  if (!(await isOurs(found.uid))) throw refuse(socket, `belongs to uid ${found.uid}`);
  for (let folder = parent; ; folder = path.dirname(folder)) {
    const { uid, mode } = await lstat(folder).catch(absent);
    if (!(await isOurs(uid))) throw refuse(folder, `belongs to uid ${uid}`);
    if (mode & GROUP_AND_OTHERS && !(mode & STICKY)) throw refuse(folder, "may be written to by others");
    if (folder === path.dirname(folder)) return socket;
  }
}

async function isPrivateFolder(folder) {
  if (!path.isAbsolute(folder)) return false;
  const found = await lstat(folder).catch(() => undefined);
  const uid = process.geteuid();
  return Boolean(found?.isDirectory()) && found.uid === uid && uid !== (await nobody()) && (found.mode & 0o077) === 0;
}

/** `NAME.sock` in each of the user's folders that is private: nobody else but root can have put it there. */
async function localPlaces(name) {
  const uid = process.geteuid();
  const session = process.env.XDG_RUNTIME_DIR;
  const folders = [...(session ? [session] : []), `/run/user/${uid}`, `/tmp/sidewire-${uid}`];
  const found = new Set();
  for (const folder of folders) {
    const plain = path.resolve("/", folder); // a slash at the end would make lstat follow a link
    if (!path.isAbsolute(folder) || !(await isPrivateFolder(plain))) continue;
    const place = await follow(path.join(plain, `${name}.sock`));
    if (place !== undefined && Buffer.byteLength(place) <= UNIX_NAME_MAX) found.add(place);
  }
  if (found.size === 0) {
    throw new SidewireError(`local:${name}: none of ${folders.join(", ")} is a private folder of this user`, {
      code: "not-listening",
    });
  }
  return [...found].map((place) => ({ path: place }));
}

/** A server whose folder others may not know leaves a link of its own name, which has to lead to a private folder too. */
async function follow(place) {
  const target = await readlink(place).catch(() => undefined);
  if (target === undefined || !path.isAbsolute(target) || path.basename(target) !== path.basename(place)) return place;
  return (await isPrivateFolder(path.dirname(target))) ? target : undefined;
}

// Windows: what the pipe is called.

let sid;

/** This user's security identifier, as text. Plain Node.js can't ask for it, but the system has a program that can. */
function userSid() {
  sid ??= new Promise((resolve, reject) => {
    const whoami = path.join(process.env.SystemRoot ?? "C:\\Windows", "System32", "whoami.exe");
    execFile(whoami, ["/user", "/fo", "csv", "/nh"], { timeout: 10_000, windowsHide: true }, (error, text) => {
      const found = error ? undefined : sidIn(text);
      if (found) return resolve(found);
      sid = undefined; // it may work another time
      const why = "whoami does not say what this user's SID is";
      reject(new SidewireError(why, { code: "unsupported", cause: error ?? undefined }));
    });
  });
  return sid;
}

/** The SID in a line such as "machine\user","S-1-5-21-1-2-3-1001". */
export function sidIn(text) {
  return /,"(S-1-[0-9]+(?:-[0-9]+)+)"\s*$/.exec(text)?.[1];
}

// Errors, and tokens.

const MEANING = {
  ENOENT: "not-listening",
  ENOTDIR: "not-listening",
  ECONNREFUSED: "not-listening",
  EACCES: "refused",
  EPERM: "refused",
};

/** What the system says of a place at which nobody could be met. */
export function notListening(endpoint, error) {
  const code = MEANING[error.code] ?? "failed";
  const what = code === "not-listening" ? "nobody is there" : "can't connect";
  return new SidewireError(`${endpoint}: ${what} (${error.code ?? error.message})`, { code, cause: error });
}

/** The key in a file that nobody but this user and root may read; on Windows that is not looked at. */
export async function readToken(file) {
  const refuse = (why) => refusedByUs(`the token's file ${file} ${why}`);
  const { O_RDONLY, O_NOFOLLOW = 0, O_NONBLOCK = 0 } = constants;
  const handle = await open(file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch((error) => {
    throw error.code === "ELOOP" ? refuse("is a symbolic link") : notListening(`the token's file ${file}`, error);
  });
  try {
    const found = await handle.stat();
    if (!found.isFile()) throw refuse("is no file");
    if (!isWindows && !(await isOurs(found.uid))) throw refuse(`belongs to uid ${found.uid}`);
    if (!isWindows && found.mode & 0o077) throw refuse("may be read or written by others; its mode has to be 600");
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(TOKEN_LENGTH + 1), 0, TOKEN_LENGTH + 1, 0);
    if (bytesRead !== TOKEN_LENGTH) throw refuse(`does not hold ${TOKEN_LENGTH} bytes`);
    return buffer.subarray(0, TOKEN_LENGTH);
  } finally {
    await handle.close();
  }
}

/** The key that the options name, if they do. */
export async function takeToken({ token, tokenFile }) {
  if (token !== undefined && tokenFile !== undefined) throw invalid("either token or tokenFile");
  if (tokenFile !== undefined) return readToken(tokenFile);
  if (token === undefined) return undefined;
  if (token instanceof Uint8Array && token.length === TOKEN_LENGTH) return Buffer.from(token);
  throw invalid(`a token is a Uint8Array of ${TOKEN_LENGTH} bytes`);
}
