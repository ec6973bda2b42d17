// pg-boss: jobs sent one by one, worked off in batches, and lone ones at its shortest polling
// interval; prints the figures as JSON.
import PgBoss from "pg-boss";

const jobs = Number(process.env.JOBS);
const lone = Math.min(Number(process.env.LONE), 40);
const now = () => performance.now();
const boss = new PgBoss({ connectionString: process.env.DSN, max: 18, supervise: false, schedule: false });
await boss.start();
await boss.createQueue("many");
await boss.createQueue("lone");

let began = now();
let next = 0;
const enqueue = async () => {
  while (next++ < jobs) await boss.send("many", {});
};
await Promise.all(Array.from({ length: 16 }, enqueue));
const enqueued = (jobs / (now() - began)) * 1000;

began = now();
const drain = async () => {
  for (let batch; (batch = await boss.fetch("many", { batchSize: 200 }))?.length; ) {
    await boss.complete("many", batch.map((job) => job.id));
  }
};
await Promise.all(Array.from({ length: 4 }, drain));
const worked = (jobs / (now() - began)) * 1000;

const waits = [];
let arrived = null;
await boss.work("lone", { pollingIntervalSeconds: 0.5, batchSize: 1 }, async ([job]) => {
  waits.push(now() - job.data.at);
  arrived();
});
for (let i = 0; i < lone; i++) {
  const arrival = new Promise((resolve) => (arrived = resolve));
  await boss.send("lone", { at: now() });
  await arrival;
  await new Promise((next) => setTimeout(next, Math.random() * 500));
}
waits.sort((a, b) => a - b);
console.log(JSON.stringify([enqueued, worked, waits[lone >> 1], waits[Math.floor(lone * 0.99)]]));
process.exit(0);
