import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { checkJournal } from '../../src/simulators/journal/check.js';
import type { JournalLine } from '../../src/simulators/journal.js';
import { StepWorld, type TestMachine } from './step-world.js';

const FOLDER = join(import.meta.dirname, '..', 'faults');

/** A world of its own for one row, whose faults hold from the first request (see fault-world.ts for rows that share a world). */
export async function worldWithFaults(
  row: string,
  options: Parameters<typeof StepWorld.start>[0] = {},
): Promise<StepWorld> {
  const name = readdirSync(FOLDER).find((file) => file.startsWith(`${row}-`) && file.endsWith('.yaml'));
  if (name === undefined) throw new Error(`there is no fault file of ${row}`);
  return StepWorld.start({
    ...options,
    site: { ...options.site, faultsFile: join(FOLDER, name) },
  });
}

/** A class whose every step may run. */
export async function openBatch(
  world: StepWorld,
  count: number,
  blueprint = 'student-desktop',
): Promise<TestMachine[]> {
  const logins = Array.from({ length: count }, (_, index) => `s${index + 1}`);
  const machines = await world.createBatch(blueprint, logins);
  for (const machine of machines) await world.open(machine);
  return machines;
}

/** Each of these rules fired at least once: a fault that never came proves nothing. */
export function expectFired(world: StepWorld, ...rules: string[]): void {
  const fired = new Set(world.journal().flatMap(({ event, fault }) => (event === 'fault' ? [fault!] : [])));
  expect(rules.filter((rule) => !fired.has(rule))).toEqual([]);
}

/** By the journal: one live guest for each machine, none besides, and nothing written that was not ours. */
export async function expectWhole(world: StepWorld, machines: readonly TestMachine[]): Promise<void> {
  const vmids = await Promise.all(machines.map((machine) => world.vmid(machine)));
  const live = guestsOf(world);
  expect(new Set(live.keys())).toEqual(new Set(vmids));
  expect([...live.values()].every((line) => machines.some(({ id }) => markOf(line).includes(id)))).toBe(true);
  const verdict = await checkJournal(world.site.simulators.context.journal.file, {
    minimumGuests: machines.length,
  });
  expect(verdict).toMatchObject({ findings: [], missing: [], collisions: 0, foreignWrites: 0 });
}

/** Deletes the whole class; by the journal nothing is left of it. */
export async function expectRemoved(world: StepWorld, machines: readonly TestMachine[]): Promise<void> {
  await world.remove(machines);
  const verdict = await checkJournal(world.site.simulators.context.journal.file, { expectNothingLeft: true });
  expect(verdict).toMatchObject({ findings: [], left: 0, foreignWrites: 0 });
}

/** Clones that were made and not destroyed, by VMID. */
function guestsOf(world: StepWorld): Map<number, JournalLine> {
  const live = new Map<number, JournalLine>();
  for (const line of world.journal()) {
    if (line.event !== 'task-end' || line.effect !== true) continue;
    if (line.op === 'qemu.clone') live.set(line.vmid!, line);
    if (line.op === 'qemu.destroy') live.delete(line.vmid!);
  }
  return live;
}

const markOf = (line: JournalLine): string => String(line.params?.['mark']);

/** Every clone request that reached the cluster, in order: `vmid` is the new one. */
export const cloneRequests = (world: StepWorld): JournalLine[] =>
  world.journal().filter(({ event, op }) => event === 'request' && op === 'qemu.clone');

/**
 * No clone was asked for again before it was certain that the earlier request had left nothing: it was never carried out, or its task had
 * ended without a guest. And never under another VMID: `vmids` are all that were asked for.
 */
export function expectNoBlindClone(world: StepWorld, vmids: readonly number[]): void {
  const lines = world.journal();
  const requests = cloneRequests(world);
  expect(new Set(requests.map(({ vmid }) => vmid))).toEqual(new Set(vmids));
  for (const [index, again] of requests.entries())
    for (const { vmid, upid } of requests.slice(0, index)) {
      if (vmid !== again.vmid || upid === undefined) continue;
      const end = lines.find((line) => line.event === 'task-end' && line.upid === upid);
      expect(end, `the clone of ${vmid} had ended before it was asked for again`).toBeDefined();
      expect(end!.effect).toBe(false);
      expect(BigInt(end!.ns)).toBeLessThan(BigInt(again.ns));
    }
}

/** How often the work of this kind was really done, by VMID. */
export function done(world: StepWorld, op: string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const line of world.journal())
    if (line.op === op && line.event === 'task-end' && line.effect === true)
      counts[line.vmid!] = (counts[line.vmid!] ?? 0) + 1;
  return counts;
}
