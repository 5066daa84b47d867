import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startForeigner, type ForeignSettings } from '../../src/simulators/foreign/start-foreign.js';
import { checkJournal } from '../../src/simulators/journal/check.js';
import { startSimulators, type Simulators } from '../../src/simulators/simulators.js';
import { WireClient } from './proxmox-client.js';

const PROGRAM = join(import.meta.dirname, '../../dist/simulators/program.js');
const OTHER = /^\[hatchery v1 deployment=/;

describe('somebody else on the cluster', () => {
  let simulators: Simulators;
  let product: WireClient;
  beforeEach(async () => {
    simulators = await startSimulators({ which: ['proxmox'], timeScale: 0.001 });
    product = new WireClient(simulators.proxmox!);
  });
  afterEach(async () => {
    product.close();
    await simulators.stop();
  });

  const access = () => ({
    endpoints: simulators.proxmox!.endpoints,
    ca: simulators.proxmox!.caPem,
    token: simulators.proxmox!.rootToken,
  });
  const journal = (actor: string) => simulators.context.journal.read().filter((line) => line.actor === actor);
  const made = (actor: string) =>
    journal(actor).filter(({ event, op, effect }) => event === 'task-end' && op === 'qemu.clone' && effect);

  /** Works until everything was done at least once. */
  async function work(settings: ForeignSettings): Promise<string> {
    const foreigner = await startForeigner(access(), settings);
    const { did } = foreigner;
    const isEnough = (): boolean =>
      did.create > 5 && did.change > 0 && did.power > 0 && did.move > 2 && did.remove > 0;
    while (!isEnough()) await new Promise((resolve) => setTimeout(resolve, 5));
    await foreigner.stop();
    return foreigner.actor;
  }

  it('a person uses any id, name and pool, and never changes or deletes what is not theirs', async () => {
    for (const [vmid, name] of [
      [10_000, 'vm-a'],
      [10_001, 'vm-b'],
    ] as const) {
      const clone = { newid: vmid, name, pool: 'hatchery-demo' };
      await product.task(await product.post('/nodes/pve1/qemu/9000/clone', clone));
    }
    const actor = await work({
      who: 'person',
      name: 'alice',
      seed: '3',
      everySeconds: 0.001,
      range: [10_000, 10_050],
      pool: 'hatchery-demo',
    });
    const own = new Set(made(actor).map(({ vmid }) => vmid));
    expect([...own].some((vmid) => vmid! >= 10_000 && vmid! <= 10_050)).toBe(true);
    expect([...own].some((vmid) => vmid! > 10_050)).toBe(true);
    const foreign = journal(actor).filter(
      ({ vmid, effect }) => effect && vmid !== undefined && !own.has(vmid),
    );
    expect(new Set(foreign.map(({ op }) => op))).toEqual(new Set(['qemu.migrate']));
    const verdict = await checkJournal(simulators.context.journal.file, {
      minimumGuests: 2,
      parts: { filter: false, desktop: false },
    });
    expect(verdict).toMatchObject({ findings: [], counts: { guestsCreated: 2, openTasks: 0 } });
    expect(verdict.counts.foreignActions).toBeGreaterThan(own.size);
  });

  it('another deployment keeps to its own pool and range, and marks what it makes', async () => {
    const actor = await work({
      who: 'deployment',
      name: 'other',
      seed: '4',
      everySeconds: 0.001,
      range: [30_000, 30_100],
      pool: 'hatchery-other',
    });
    for (const { vmid, params } of made(actor)) {
      expect(vmid).toBeGreaterThanOrEqual(30_000);
      expect(vmid).toBeLessThanOrEqual(30_100);
      expect([params?.['pool'], params?.['mark']]).toEqual(['hatchery-other', expect.stringMatching(OTHER)]);
    }
    expect(journal(actor).filter(({ status }) => status === 403)).toEqual([]);
  });

  it('is a program that ends with what it did when it is told to', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'foreign-'));
    const { proxmox, context } = simulators;
    const { id: rootTokenId, secret: rootTokenSecret } = proxmox!.rootToken;
    const line = { endpoints: proxmox!.endpoints, caFile: context.caFile, rootTokenId, rootTokenSecret };
    writeFileSync(join(dir, 'simulator.json'), JSON.stringify(line));
    const args = ['foreign', '--at', join(dir, 'simulator.json'), '--name', 'bob', '--every', '0.01'];
    const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
    try {
      const said = createInterface(child.stdout)[Symbol.asyncIterator]();
      expect(JSON.parse((await said.next()).value as string)).toEqual({
        simulator: 'foreign',
        actor: 'foreign-bob@pve!hand',
      });
      while (made('foreign-bob@pve!hand').length === 0)
        await new Promise((resolve) => setTimeout(resolve, 20));
      child.kill('SIGTERM');
      const { did } = JSON.parse((await said.next()).value as string) as { did: { create: number } };
      expect(did.create).toBeGreaterThan(0);
      if (child.exitCode === null) await once(child, 'exit');
      expect(child.exitCode).toBe(0);
    } finally {
      child.kill('SIGKILL');
      rmSync(dir, { recursive: true });
    }
  });

  it('is not let in with a file that tells nothing', async () => {
    const child = spawn(process.execPath, [PROGRAM, 'foreign', '--at', '/nowhere'], {
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    let text = '';
    child.stderr.setEncoding('utf8').on('data', (part: string) => (text += part));
    expect(await once(child, 'close')).toEqual([2, null]);
    expect(text).toContain('Unable to read how to reach the cluster from /nowhere');
  });
});
