// That index.d.ts and what there really is have the same names.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import * as sidewire from "../index.js";
import { Client } from "../lib/client.js";
import { Events } from "../lib/events.js";
import { DEFAULT_LIMITS } from "../lib/limits.js";
import { Parts } from "../lib/parts.js";
import { DEFAULT_RULES } from "../lib/reconnect.js";
import "./support.js";

const text = await readFile(new URL("../index.d.ts", import.meta.url), "utf8");

/** The names of an interface's members. */
function members(name) {
  const body = new RegExp(`^export interface ${name}\\b.*?\\{\\n(.*?)^\\}`, "ms").exec(text);
  assert.ok(body, `there is an interface ${name}`);
  return [...body[1].matchAll(/^ {2}(?:readonly )?([A-Za-z]+)\??[(:]/gm)].map(([, member]) => member);
}

const ofPrototype = (type) => Object.getOwnPropertyNames(type.prototype).filter((name) => name !== "constructor");

test("what is exported is declared, and the other way round", () => {
  const declared = [...text.matchAll(/^export declare (?:const|class|function) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(declared.sort(), Object.keys(sidewire).sort());
});

test("result codes are declared with their numbers", () => {
  for (const [name, rc] of Object.entries(sidewire.ResultCode)) assert.ok(text.includes(`readonly ${name}: ${rc};`), name);
});

test("a client has what is declared, and no more", () => {
  const values = ["server", "closed"];
  const declared = members("Client").filter((name) => !values.includes(name));
  assert.deepEqual(declared.sort(), ofPrototype(Client).sort());
  assert.ok(values.every((name) => members("Client").includes(name)));
});

test("so have events and parts", () => {
  for (const [type, name, inner] of [[Events, "Events", ["push", "renewed", "end"]], [Parts, "Parts", ["outcome"]]]) {
    const inherited = ["next"]; // from AsyncIterableIterator
    const methods = members(name).filter((member) => member !== "topic" && member !== "reply");
    assert.deepEqual([...methods, ...inherited, ...inner].sort(), ofPrototype(type).sort());
  }
});

test("limits and rules are declared, each with its default", () => {
  assert.deepEqual(members("Limits").sort(), Object.keys(DEFAULT_LIMITS).sort());
  assert.deepEqual(members("Reconnect").sort(), Object.keys(DEFAULT_RULES).sort());
});
