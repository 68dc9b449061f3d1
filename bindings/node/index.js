// What is public. README.md says how to use it, index.d.ts what each thing is.

import { Client } from "./lib/client.js";

export { DEFAULT_LIMITS } from "./lib/limits.js";
export { ResultCode, SidewireError } from "./lib/error.js";

/** Connects to a server. See index.d.ts for the options. */
export const connect = (endpoint, options) => Client.connect(endpoint, options);
