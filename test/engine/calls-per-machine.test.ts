import { afterAll, beforeAll, expect, it } from 'vitest';
import { assemble, type Assembly } from '../../src/app/engine/assemble.js';
import type { JournalLine } from '../../src/simulators/journal.js';
import { assembled, people, type Assembled } from '../support/assembled.js';
import { simulatedSite, type SimulatedSite } from '../support/simulated-site.js';

const COUNT = 12;
const SCALE = 0.05;
/** One list of a node in 3.1 s in the long run, and a few before that. */
const STEADY_MS = 3_100 * SCALE;
const FEW = 8;

let site: SimulatedSite;
let bench: Assembled;
let second: Assembly;
const stops: (() => Promise<void>)[] = [];

/** Two processes as far as Redis, Postgres and the cluster can tell. */
beforeAll(async () => {
  site = await simulatedSite({ timeScale: SCALE });
  bench = await assembled(site);
  second = await assemble(bench.options);
  for (const one of [bench.assembly, second]) {
    one.caretaker.start();
    const worker = await one.startWorker(16);
    stops.push(async () => {
      await one.caretaker.stop();
      await worker.stop();
    });
  }
});
afterAll(async () => {
  for (const stop of stops) await stop();
  await second?.close();
  await bench?.close();
  await site?.stop();
});

it('a class costs each machine its four writes and the reads that prove something, and shares the rest', async () => {
  await bench.assembly.intake.create(
    { name: 'class', blueprint: 'student-desktop', rows: people(COUNT), skipExisting: false },
    bench.teacher,
    undefined,
  );
  await bench.until(`select count(*) = ${COUNT} as ok from runs where state = 'done'`);
  const requests = site.simulators.context.journal
    .read()
    .filter((line) => line.sim === 'proxmox' && line.event === 'request');
  const count = (op: string): number => requests.filter((line) => line.op === op).length;
  for (const op of ['qemu.config.put', 'qemu.resize', 'qemu.start'])
    expect([op, count(op)]).toEqual([op, COUNT]);
  // The finished clone, before the disk grows, before the start; and one more where another process goes on with the machine.
  const own = requests.filter((line) => line.op === 'qemu.config.get' && line.vmid !== 9000);
  expect(own.length).toBeLessThanOrEqual(4 * COUNT);
  for (const op of ['qemu.status', 'cluster.nextid', 'task.status']) expect([op, count(op)]).toEqual([op, 0]);
  expect(count('pools.get')).toBeLessThan(COUNT / 2);
  for (const node of ['pve1', 'pve2', 'pve3'])
    expectPace(requests.filter((line) => line.op === 'tasks.list' && line.node === node));
});

/** However many processes wait for tasks of a node, its list is read for all of them. */
function expectPace(lists: readonly JournalLine[]): void {
  const [first, last] = [lists[0], lists.at(-1)];
  if (first === undefined || last === undefined) return;
  const spanMs = Number(BigInt(last.ns) - BigInt(first.ns)) / 1e6;
  expect(lists.length).toBeLessThanOrEqual(spanMs / STEADY_MS + FEW);
}
