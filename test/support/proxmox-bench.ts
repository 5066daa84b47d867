import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { clusterSchema } from '../../src/core/definitions.js';
import { describeWithMark, type Mark } from '../../src/core/mark.js';
import { ProxmoxDriver } from '../../src/drivers/proxmox/proxmox.driver.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import { plainCall } from '../../src/ports/call.js';
import type { Clock } from '../../src/ports/clock.js';
import type { CloneRequest, GuestSettings } from '../../src/ports/hypervisor.js';
import { Secret } from '../../src/ports/secrets.js';
import { createContext } from '../../src/simulators/create-context.js';
import { parseJournal, type JournalLine } from '../../src/simulators/journal.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';

const SCALE = 0.005;
const DEPLOYMENT = '0190aaaa-0000-7000-8000-000000000001';

export const SETTINGS: GuestSettings = {
  cores: 4,
  memoryMiB: 4096,
  bridge: 'vmbr0',
  vlan: undefined,
  mac: '02:00:00:00:00:01',
  ciUser: 'ada',
  ciPassword: undefined,
  sshKeys: [],
};

export interface DriverSetup {
  readonly definition: Readonly<Record<string, unknown>>;
  readonly secret: string;
  readonly clock?: Clock;
}

/** A simulated cluster, and drivers whose every call is noted. */
export class ProxmoxBench {
  /** `<op> <outcome>` of every HTTP call of every driver. */
  readonly calls: string[] = [];
  readonly #drivers: ProxmoxDriver[] = [];

  private constructor(
    readonly context: ReturnType<typeof createContext>,
    readonly simulator: ProxmoxSimulator,
  ) {}

  static async start(): Promise<ProxmoxBench> {
    const context = createContext({ timeScale: SCALE });
    return new ProxmoxBench(context, await startProxmoxSimulator(context));
  }

  async stop(): Promise<void> {
    for (const driver of this.#drivers) driver.close();
    await this.simulator.stop();
    this.context.close();
  }

  /** With the simulator's token, or as `setup` says. */
  driver({ definition, secret, clock = systemClock }: Partial<DriverSetup> = {}): ProxmoxDriver {
    const { endpoints, token } = this.simulator;
    const driver = new ProxmoxDriver({
      definition: clusterSchema.parse({
        name: 'main',
        kind: 'proxmox',
        endpoints,
        trust: { caFile: this.context.caFile },
        token: { id: token.id, secret: { env: 'NOT_READ' } },
        pool: 'hatchery-demo',
        vmids: { from: 10_000, to: 19_999 },
        ...definition,
      }),
      secret: new Secret(secret ?? token.secret),
      deployment: DEPLOYMENT,
      clock,
      remoteTimeScale: SCALE,
      timeoutsMs: { connect: 2_000, read: 5_000, write: 5_000 },
      metrics: { observe: (op, _, outcome) => void this.calls.push(`${op} ${outcome}`) },
      log: { warn: () => undefined },
    });
    this.#drivers.push(driver);
    return driver;
  }

  /** Signs in as the user of the token. */
  accountDriver(more: Partial<DriverSetup> = {}): ProxmoxDriver {
    const username = this.simulator.token.id.split('!')[0]!;
    const account = { username, password: { env: 'NOT_READ' } };
    const { definition, ...others } = more;
    return this.driver({
      secret: this.simulator.userPassword,
      ...others,
      definition: { token: undefined, account, ...definition },
    });
  }

  count(op: string): number {
    return this.calls.filter((call) => call.startsWith(`${op} `)).length;
  }

  /** What really arrived: the requests of this kind, in their order. */
  requests(op: string): JournalLine[] {
    return parseJournal(readFileSync(this.context.journal.file, 'utf8')).filter(
      (line) => line.event === 'request' && line.op === op,
    );
  }

  aMark(vmid: number): Mark {
    return {
      deployment: DEPLOYMENT,
      machine: randomUUID(),
      run: randomUUID(),
      step: 'clone-template',
      vmid,
      attempt: 1,
    };
  }

  /** A linked clone that is done. */
  async made(driver: ProxmoxDriver, vmid: number): Promise<Mark> {
    const mark = this.aMark(vmid);
    await driver.followTask(
      await driver.startClone(await this.aClone(driver, mark), plainCall()),
      plainCall(),
    );
    return mark;
  }

  async aClone(driver: ProxmoxDriver, mark: Mark): Promise<CloneRequest> {
    return {
      kind: 'qemu',
      template: (await driver.templates('qemu', ['debian-12-xfce'], plainCall()))[0]!,
      vmid: mark.vmid,
      name: `vm-${mark.vmid}`,
      node: 'pve1',
      mode: 'linked',
      storage: undefined,
      description: describeWithMark('text', mark),
    };
  }
}
