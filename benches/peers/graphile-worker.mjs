// graphile-worker: jobs enqueued one by one, worked off, and lone ones; prints the figures as JSON.
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import pg from "pg";

const { DSN } = process.env;
const jobs = Number(process.env.JOBS);
const lone = Number(process.env.LONE);
const logger = new Logger(() => () => {});
const now = () => performance.now();
const pool = new pg.Pool({ connectionString: DSN, max: 16 });
const utils = await makeWorkerUtils({ pgPool: pool, logger });
await utils.migrate();

let began = now();
let next = 0;
const enqueue = async () => {
  while (next++ < jobs) await utils.addJob("noop", {});
};
await Promise.all(Array.from({ length: 16 }, enqueue));
const enqueued = (jobs / (now() - began)) * 1000;

let done = 0;
const drained = deferred();
let waiting = null;
const noop = async ({ at }) => {
  if (at) waiting.resolve(now() - at);
  else if (++done === jobs) drained.resolve();
};
const options = { connectionString: DSN, pollInterval: 2000, logger, noHandleSignals: true, taskList: { noop } };
began = now();
const workers = await run({ ...options, concurrency: 24, maxPoolSize: 26 });
await drained.promise;
const worked = (jobs / (now() - began)) * 1000;

const waits = [];
for (let i = 0; i < lone; i++) {
  waiting = deferred();
  await utils.addJob("noop", { at: now() });
  waits.push(await waiting.promise);
  await new Promise((next) => setTimeout(next, 10));
}
await workers.stop();
waits.sort((a, b) => a - b);
console.log(JSON.stringify([enqueued, worked, waits[lone >> 1], waits[Math.floor(lone * 0.99)]]));
process.exit(0);

function deferred() {
  const made = {};
  made.promise = new Promise((resolve) => (made.resolve = resolve));
  return made;
}
