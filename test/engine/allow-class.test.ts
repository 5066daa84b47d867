import { afterEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/drivers/system-clock.js';
import { WindowsDhcpDriver } from '../../src/drivers/winrm/windows-dhcp.driver.js';
import { changeRun } from '../../src/engine/engine.js';
import { EFFECTS } from '../../src/steps/effects.js';
import { allowMac } from '../../src/steps/allow-mac.step.js';
import { Secret } from '../../src/ports/secrets.js';
import { createContext } from '../../src/simulators/create-context.js';
import type { FaultRule } from '../../src/simulators/faults.js';
import type { JournalLine } from '../../src/simulators/journal.js';
import { startWinrmSimulator, type WinrmSimulator } from '../../src/simulators/winrm/winrm-simulator.js';
import { EngineBench, onMachineInput } from '../support/engine-bench.js';
import { use, workflow } from '../support/outside.js';

const TIME_SCALE = 0.01;
const CLASS = 60;
const MOST_AT_ONCE = allowMac.coalesce!.max;
/** The server's quota (failures.md, E01). */
const SHELLS = 5;

type Run = Awaited<ReturnType<EngineBench['accept']>>[number];

/** The shipped step and its undo against a simulated Windows server, and what the server's journal says. */
class DhcpClass {
  private constructor(
    readonly bench: EngineBench,
    readonly server: WinrmSimulator,
    readonly context: ReturnType<typeof createContext>,
  ) {}

  static async start(faults: FaultRule[] = []): Promise<DhcpClass> {
    const context = createContext({ timeScale: TIME_SCALE, faults });
    const server = await startWinrmSimulator(context, { maxShellsPerUser: SHELLS });
    const driver = new WindowsDhcpDriver({
      definition: {
        name: 'dhcp',
        kind: 'windows-dhcp',
        endpoint: `${server.endpoint}/wsman`,
        trust: { caFile: context.caFile },
        username: server.username,
        password: { env: 'UNUSED' },
        maxShells: SHELLS,
      },
      password: new Secret(server.password),
      clock: systemClock,
      remoteTimeScale: TIME_SCALE,
    });
    const bench = await EngineBench.start({
      workflow: workflow(use('allow-mac')),
      steps: [{ ...allowMac, input: onMachineInput }],
      effects: [...EFFECTS.values()],
      limitOf: () => SHELLS,
      ports: { dhcp: () => driver, remoteTimeScale: TIME_SCALE },
      machine: { network: { bridge: 'vmbr0', dhcp: 'dhcp' } },
      // A class in one process: its heartbeat may come late.
      times: { leaseMs: 6_000, heartbeatMs: 1_000, backOffScale: TIME_SCALE },
    });
    return new DhcpClass(bench, server, context);
  }

  async close(): Promise<void> {
    await this.bench.close();
    await this.server.stop();
    this.context.close();
  }

  journal(): readonly JournalLine[] {
    return this.context.journal.read();
  }

  /** Commands by the script that they ran. */
  scripts(): string[] {
    return this.journal()
      .filter(({ op, event }) => op === 'winrm.command' && event === 'request')
      .map(({ params }) => String(params?.['script']).replace(/^dhcp-filter-| v1$/g, ''));
  }

  /** MAC addresses of all writes of one kind that had an effect, in order. */
  written(op: 'dhcp.allow' | 'dhcp.remove'): string[] {
    return this.journal()
      .filter((line) => line.op === op && line.effect === true)
      .map((line) => line.resource!)
      .toSorted((a, b) => a.localeCompare(b));
  }

  async macs(runs: readonly Run[]): Promise<string[]> {
    const rows = await this.bench.database.query<{ mac: string }>(
      'select mac from machines where id = any ($1::uuid[])',
      [runs.map(({ machineId }) => machineId)],
    );
    return rows.map(({ mac }) => mac).toSorted((a, b) => a.localeCompare(b));
  }

  async remove(runs: readonly Run[]): Promise<void> {
    for (const { runId } of runs) await changeRun(this.bench.parts, { runId }, (model) => model.wantGone());
  }

  async are(state: string, runs: readonly Run[]): Promise<void> {
    await this.bench.untilAll(runs, state);
  }
}

let dhcp: DhcpClass;
afterEach(async () => dhcp.close());

describe('the MAC addresses of a class', () => {
  it('are allowed and removed with a few commands, each once, within the quota of shells', async () => {
    dhcp = await DhcpClass.start();
    const { bench, context, server } = dhcp;
    const foreign = server.filters();
    const runs = await bench.accept(CLASS);
    const caretakers = [bench.caretaker(), bench.caretaker()];
    await bench.worker();
    await bench.worker();
    await dhcp.are('done', runs);
    const macs = await dhcp.macs(runs);
    expect(dhcp.written('dhcp.allow')).toEqual(macs);
    expect(dhcp.scripts().length).toBeLessThanOrEqual(Math.ceil(CLASS / MOST_AT_ONCE) + 1);

    // As a batch is deleted: all of them are due before anybody looks.
    for (const caretaker of caretakers) await caretaker.stop();
    await dhcp.remove(runs);
    bench.caretaker();
    bench.caretaker();
    await dhcp.are('cancelled', runs);
    expect(dhcp.written('dhcp.remove')).toEqual(macs);
    expect(dhcp.scripts().length / CLASS).toBeLessThanOrEqual(0.2);
    expect(dhcp.server.filters()).toEqual(foreign);
    expect(dhcp.server.openShells()).toBe(0);
    expect(
      context.journal.read().filter(({ op, status }) => op === 'winrm.create' && status !== 200),
    ).toEqual([]);
  });

  it('fail one by one: a foreign entry stops its own machine only', async () => {
    dhcp = await DhcpClass.start();
    const { bench, context } = dhcp;
    const runs = await bench.accept(8);
    const theirs = (await dhcp.macs([runs[3]!]))[0]!;
    context.world.dhcp.allow.set(theirs, { description: 'printer' });
    bench.caretaker();
    await bench.worker();
    const others = runs.filter((run) => run !== runs[3]);
    await dhcp.are('done', others);
    await dhcp.are('parked', [runs[3]!]);
    expect(dhcp.written('dhcp.allow')).toEqual(await dhcp.macs(others));
    expect(dhcp.scripts()).toEqual(['allow']);
    expect(context.world.dhcp.allow.get(theirs)).toEqual({ description: 'printer' });
  });

  it('are read once, and added no second time, when the answer was lost after they were added', async () => {
    dhcp = await DhcpClass.start([
      { id: 'cut', match: { op: 'winrm.receive', nth: 1 }, when: 'after', effect: 'reset' },
    ]);
    const { bench } = dhcp;
    const runs = await bench.accept(10);
    bench.caretaker();
    await bench.worker();
    await dhcp.are('done', runs);
    expect(dhcp.written('dhcp.allow')).toEqual(await dhcp.macs(runs));
    expect(dhcp.scripts()).toEqual(['allow', 'find']);
  });

  it('are all tried again when the command was swallowed', async () => {
    const op = 'winrm.script.dhcp-filter-allow';
    dhcp = await DhcpClass.start([{ id: 'e02', match: { op, nth: 1 }, when: 'during', effect: 'drop' }]);
    const { bench } = dhcp;
    const runs = await bench.accept(10);
    bench.caretaker();
    await bench.worker();
    await dhcp.are('done', runs);
    expect(dhcp.written('dhcp.allow')).toEqual(await dhcp.macs(runs));
    expect(dhcp.scripts()).toEqual(['allow', 'find', 'allow']);
  });

  it('wait for a free shell when others use up the quota', async () => {
    const rule: FaultRule = {
      id: 'e01',
      match: { op: 'winrm.create', nth: 1 },
      when: 'before',
      effect: 'status',
      value: 500,
    };
    dhcp = await DhcpClass.start([rule]);
    const { bench } = dhcp;
    const runs = await bench.accept(10);
    bench.caretaker();
    await bench.worker();
    await dhcp.are('done', runs);
    expect(dhcp.written('dhcp.allow')).toEqual(await dhcp.macs(runs));
  });
});
