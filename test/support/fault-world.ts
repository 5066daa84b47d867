import { expect } from 'vitest';
import type { JournalLine } from '../../src/simulators/journal.js';
import { checkJournal } from '../../src/simulators/journal/check.js';
import type { Rule } from '../../src/simulators/journal/verdict.js';
import { causeFaults } from './fault-file.js';
import { StepWorld, type TestMachine } from './step-world.js';

export const BLUEPRINT = 'student-desktop';
const STEPS = [
  'reserve',
  'allow-mac',
  'clone',
  'configure',
  'resize',
  'start',
  'address',
  'desktop',
] as const;
/**
 * The real engine against a simulated site in which the faults of one file at a time are active.
 * Everything is judged by the simulators' journal: what the product says about itself proves nothing.
 */
export class FaultWorld {
  /** Journal time from which the current faults hold. */
  #since = 0n;

  private constructor(readonly world: StepWorld) {}

  static async start(options: Parameters<typeof StepWorld.start>[0] = {}): Promise<FaultWorld> {
    return new FaultWorld(await StepWorld.start(options));
  }

  get proxmox(): StepWorld['site']['simulators']['proxmox'] {
    return this.world.site.simulators.proxmox;
  }

  /** Runs `work` with the faults of a file; each rule must have fired and done what it says, or nothing was proven. */
  async with(file: string, work: () => Promise<void>): Promise<void> {
    this.#since = this.world.now();
    const caused = causeFaults(this.world.site, file);
    try {
      await work();
      caused.end();
      const failed = this.lines({ event: 'foreign', effect: false });
      expect(failed.map((line) => [line.op, line.params])).toEqual([]);
    } finally {
      caused.remove();
    }
  }

  /** Lines since the faults began that have these values. */
  lines(match: Partial<JournalLine>): JournalLine[] {
    return this.world
      .journal(this.#since)
      .filter((line) =>
        Object.entries(match).every(([key, value]) => line[key as keyof JournalLine] === value),
      );
  }

  /** A machine that runs to its end. */
  async ready(blueprint = BLUEPRINT): Promise<TestMachine> {
    const machine = await this.world.create(blueprint);
    await this.world.open(machine);
    await this.world.runsAre('done', [machine]);
    return machine;
  }

  /** A machine that runs until it is started: all that is made on the cluster. */
  async started(): Promise<TestMachine> {
    const machine = await this.world.create(BLUEPRINT);
    await this.upTo('start', machine);
    return machine;
  }

  /** Lets a machine go on until this step is done. */
  async upTo(step: (typeof STEPS)[number], machine: TestMachine): Promise<void> {
    await this.world.open(machine, STEPS.slice(0, STEPS.indexOf(step) + 1));
    await this.world.stepIs('done', machine, step);
  }

  /** A machine that stops for a person; gives why. */
  async parked(machine: TestMachine): Promise<{ code: string; message: string; hint?: string }> {
    await this.world.runsAre('parked', [machine]);
    return this.errorOf(machine);
  }

  async errorOf(machine: TestMachine): Promise<{ code: string; message: string; hint?: string }> {
    const sql = 'select error from machines where id = $1';
    return (await this.world.one<{ error: { code: string; message: string } }>(sql, [machine.id])).error;
  }

  async retry(machine: TestMachine): Promise<void> {
    await this.world.assembly.intake.retryRun(machine.runId, this.world.admin);
  }

  /** VMIDs of the guests that were made for a machine and not destroyed, by the journal. */
  guestsOf(machine: TestMachine): number[] {
    const alive = new Set<number>();
    for (const line of this.lines({ event: 'task-end', effect: true })) {
      if (line.op === 'qemu.clone' && String(line.params?.['mark']).includes(machine.id))
        alive.add(line.vmid!);
      if (line.op === 'qemu.destroy') alive.delete(line.vmid!);
    }
    return [...alive];
  }

  /** Exactly one guest of it was made and lives, it is the one that the product knows, and it runs. */
  async expectOneGuest(machine: TestMachine): Promise<number> {
    const vmid = await this.world.vmid(machine);
    expect(this.guestsOf(machine)).toEqual([vmid]);
    expect(this.proxmox.guest(vmid)).toMatchObject({ status: 'running', config: { name: machine.name } });
    return vmid;
  }

  /** VMIDs of the clone requests that were sent, in their order; the name of a machine is in its clone. */
  clonesSent(machine: TestMachine): number[] {
    return this.lines({ event: 'request', op: 'qemu.clone' })
      .filter((line) => line.params?.['name'] === machine.name)
      .map((line) => line.vmid!);
  }

  /** Nobody but its owner changed this guest. */
  expectUntouched(vmid: number): void {
    const writes = this.lines({ effect: true, vmid }).filter(({ event }) => event !== 'foreign');
    expect(writes.map((line) => line.op)).toEqual([]);
  }

  /** The whole journal: no VMID, name, MAC or address twice, no write to what is not ours. `except` = what the faults themselves make. */
  async expectCleanJournal(except: readonly Rule[] = []): Promise<void> {
    const verdict = await checkJournal(this.world.site.simulators.context.journal.file);
    expect(verdict.findings.filter(({ rule }) => !except.includes(rule))).toEqual([]);
  }

  /** Gives a machine up, finished or not, and waits until it is undone. */
  async giveUp(machine: TestMachine): Promise<void> {
    await this.world.assembly.intake.cancelBatch(machine.batch, this.world.admin);
    await this.world.runsAre('cancelled', [machine]);
  }

  /** Deletes a machine that is ready, and waits until nothing is left. */
  async remove(machine: TestMachine): Promise<void> {
    await this.world.remove([machine]);
  }

  close(): Promise<void> {
    return this.world.close();
  }
}
