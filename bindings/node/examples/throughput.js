// How many calls a second: `node throughput.js ENDPOINT`, of a `sidewire serve`.
import { connect } from "sidewire";

const ECHO = 4;
const SECONDS = 3;
const payload = Buffer.alloc(64, "x");
const client = await connect(process.argv[2] ?? "local:sidewire");

async function measure(what, atOnce) {
  const end = performance.now() + SECONDS * 1000;
  let count = 0;
  const one = async () => {
    for (; performance.now() < end; count += 1) await client.call(ECHO, payload);
  };
  await Promise.all(Array.from({ length: atOnce }, one));
  console.log(`${what}: ${Math.round(count / SECONDS)} calls a second`);
}

await measure("warming up", 64);
await measure("one after the other", 1);
await measure("64 at once", 64);
await client.close();
