// Plays conversations of tests/conversations/calls, whose README.md says what a line means.
//
// usage: node play.js ENDPOINT FILE...

import { readFile } from "node:fs/promises";
import path from "node:path";

import { SidewireError, connect } from "../index.js";

const PATIENCE = 60_000;
const ESCAPES = { '"': 0x22, "\\": 0x5c, n: 0x0a, t: 0x09, r: 0x0d };

/** The bytes of what stands between two quotes. */
function unescape(text) {
  const pieces = text.match(/\\x[0-9a-fA-F]{2}|\\["\\ntr]|[^\\]+/gu) ?? [];
  const byte = (piece) => (piece[1] === "x" ? parseInt(piece.slice(2), 16) : ESCAPES[piece[1]]);
  return Buffer.concat(pieces.map((piece) => (piece[0] === "\\" ? Buffer.from([byte(piece)]) : Buffer.from(piece))));
}

/** Words, and texts as Buffers. */
function tokens(line) {
  const found = [];
  const pattern = /\s*(?:"((?:[^"\\]|\\.)*)"(?:\*([0-9]+))?|(\S+))/gy;
  while (pattern.lastIndex < line.trimEnd().length) {
    const token = pattern.exec(line);
    if (!token) throw new Error(`can't be read: ${line}`);
    const [, text, times, word] = token;
    found.push(word ?? Buffer.concat(Array(Number(times ?? 1)).fill(unescape(text))));
  }
  return found;
}

const shown = (payload) => (payload === undefined ? "" : ` ${JSON.stringify(payload.toString().slice(0, 200))}`);

class Wrong extends Error {}

/** How a call went, as rc and payload or text. */
async function outcome(promise) {
  try {
    return { rc: 0, payload: await promise };
  } catch (error) {
    if (!(error instanceof SidewireError) || error.rc === undefined) throw error;
    return { rc: error.rc, payload: error.payload };
  }
}

function expect({ rc, payload }, [wanted, text]) {
  const isRight = rc === Number(wanted) && (text === undefined || text.equals(payload ?? Buffer.alloc(0)));
  if (!isRight) throw new Wrong(`${rc}${shown(payload)}`);
}

function limited(words) {
  const at = words.indexOf("timeout");
  return at < 0 ? {} : { timeout: Number(words[at + 1]) };
}

/** What stands before and behind a word. */
function split(words, word) {
  const at = words.indexOf(word);
  return at < 0 ? [words, []] : [words.slice(0, at), words.slice(at + 1)];
}

const lines = {
  async call(game, words) {
    const [[type, payload, ...rest], wanted] = split(words, "->");
    expect(await outcome(game.client.call(Number(type), payload, limited(rest))), wanted);
  },
  async notify(game, [type, payload]) {
    await game.client.notify(Number(type), payload);
  },
  async start(game, [name, type, payload, ...rest]) {
    const controller = new AbortController();
    const options = { ...limited(rest), signal: controller.signal };
    game.started.set(name, { controller, ends: outcome(game.client.call(Number(type), payload, options)) });
  },
  async cancel(game, [name]) {
    game.started.get(name).controller.abort();
  },
  async wait(game, words) {
    const [[name], wanted] = split(words, "->");
    expect(await game.started.get(name).ends, wanted);
  },
  async parts(game, words) {
    const [[type, payload], expected] = split(words, "->");
    const [wanted, end] = split(expected, "then");
    const parts = game.client.stream(Number(type), payload);
    const takeAll = async () => {
      for await (const part of parts) {
        if (!wanted.shift()?.equals(part)) throw new Wrong(`the part${shown(part)}`);
      }
      return parts.reply;
    };
    const came = await outcome(takeAll());
    if (wanted.length > 0) throw new Wrong(`${wanted.length} parts less`);
    expect(came, end);
  },
  async subscribe(game, words) {
    const [[topic], wanted] = split(words, "->");
    const came = await outcome(game.client.subscribe(Number(topic)));
    if (came.rc === 0) game.events.set(topic, came.payload);
    expect({ rc: came.rc }, wanted);
  },
  async unsubscribe(game, words) {
    const [[topic], wanted] = split(words, "->");
    expect({ rc: (await outcome(game.events.get(topic).close())).rc }, wanted);
  },
  async event(game, [topic, text]) {
    const { value } = await game.events.get(topic).next();
    const isRight = value?.payload.equals(text) && value.dropped === 0;
    if (!isRight) throw new Wrong(`${value?.dropped} dropped,${shown(value?.payload)}`);
  },
};

function serve(game, [type, how, rc, text]) {
  game.handlers[type] = (payload) => {
    if (how === "fail") throw new SidewireError(text.toString(), { rc: Number(rc) });
    return payload.map((byte) => (byte >= 0x61 && byte <= 0x7a ? byte - 32 : byte));
  };
}

async function play(endpoint, file) {
  const game = { started: new Map(), events: new Map(), handlers: {} };
  const text = await readFile(file, "utf8");
  for (const [index, line] of text.split("\n").entries()) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    try {
      const [verb, ...words] = tokens(line);
      if (verb === "serve") serve(game, words);
      else {
        game.client ??= await connect(endpoint, { access: "anyone", handlers: game.handlers, connectTimeout: PATIENCE });
        await lines[verb](game, words);
      }
    } catch (error) {
      await game.client?.close();
      return `${path.basename(file)}:${index + 1}: ${error.message}`;
    }
  }
  await game.client?.close();
  return `${path.basename(file)}: ok`;
}

const [endpoint, ...files] = process.argv.slice(2);
if (!endpoint || files.length === 0) {
  console.error("usage: node play.js ENDPOINT FILE...");
  process.exit(2);
}
setTimeout(() => {
  console.error("play.js: nothing happens any more");
  process.exit(1);
}, 5 * PATIENCE).unref();
for (const file of files) {
  const result = await play(endpoint, file);
  console.log(result);
  if (!result.endsWith(": ok")) process.exitCode = 1;
}
