// Calls, subscribes and streams: `sidewire serve unix:/tmp/store.sock`, then `node tour.js unix:/tmp/store.sock`.
import { connect } from "sidewire";

const [GET, SET, COUNT, CHANGED] = [1, 2, 7, 1];

const client = await connect(process.argv[2] ?? "local:sidewire");
console.log(`the value is ${await client.call(GET)}`);

const changes = await client.subscribe(CHANGED);
await client.call(SET, "tea");
for await (const change of changes) {
  console.log(`event ${change.number}: it is ${change.payload} now, ${change.dropped} missed before`);
  break; // unsubscribes
}

for await (const part of client.stream(COUNT, "3")) console.log(`part ${part}`);

await client.call(9, "", { timeout: 1000 }).catch((error) => console.log(`${error.code}, rc ${error.rc}`));
await client.close();
