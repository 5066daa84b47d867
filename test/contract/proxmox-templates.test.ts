import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { clusterSchema } from '../../src/core/definitions.js';
import { describeWithMark, type Mark } from '../../src/core/mark.js';
import { ProxmoxDriver } from '../../src/drivers/proxmox/proxmox.driver.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import { plainCall } from '../../src/ports/call.js';
import type { CloneRequest } from '../../src/ports/hypervisor.js';
import { Secret } from '../../src/ports/secrets.js';
import { createContext } from '../../src/simulators/create-context.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';

const NAME = 'debian-12-xfce';
const HOOK = 'local:snippets/boot.sh';

/** What somebody does to the pinned template 9000, and the words by which a person learns of it. */
const CHANGES: [string, (simulator: ProxmoxSimulator) => void, string][] = [
  [
    'changes',
    ({ foreign }) => foreign.edit(9000, { cores: '4' }),
    'its config is not the one that was planned with',
  ],
  ['vanishes', ({ foreign }) => foreign.remove(9000), 'it is not on pve1 any more'],
  ['moves', ({ foreign }) => foreign.migrate(9000, 'pve2'), 'it moved from pve1 to pve2'],
  ['becomes a guest', ({ foreign }) => foreign.edit(9000, { template: null }), 'it is no template any more'],
  [
    'runs',
    ({ foreign }) => {
      foreign.edit(9000, { template: null });
      foreign.setRunning(9000, true);
    },
    'it is no template any more, and it runs',
  ],
  [
    'keeps a lock of a crash',
    ({ foreign }) => foreign.edit(9000, { lock: 'backup' }),
    'it is locked (backup), and no task on pve1 holds the lock',
  ],
  [
    'loses its cloud-init drive',
    ({ foreign }) => foreign.edit(9000, { ide2: null }),
    'it has 0 cloud-init drives instead of one',
  ],
  [
    'gets a second cloud-init drive',
    ({ foreign }) => foreign.edit(9000, { ide0: 'ceph:vm-9000-cloudinit-1,media=cdrom' }),
    'it has 2 cloud-init drives instead of one',
  ],
  [
    'carries a hook script that nobody registered',
    ({ foreign }) => foreign.edit(9000, { hookscript: HOOK }),
    `it carries the hook script ${HOOK}, which is not in hookScripts of the cluster’s file`,
  ],
];

describe('a pinned template', () => {
  let context: ReturnType<typeof createContext>;
  let simulator: ProxmoxSimulator;
  let driver: ProxmoxDriver;
  const deployment = randomUUID();

  beforeEach(async () => {
    context = createContext({ timeScale: 0.01 });
    simulator = await startProxmoxSimulator(context);
    driver = aDriver();
  });
  afterEach(async () => {
    driver.close();
    await simulator.stop();
    context.close();
  });

  const aDriver = (over: object = {}): ProxmoxDriver =>
    new ProxmoxDriver({
      definition: clusterSchema.parse({
        name: 'main',
        kind: 'proxmox',
        endpoints: simulator.endpoints,
        trust: { caFile: context.caFile },
        token: { id: simulator.token.id, secret: { env: 'NOT_READ' } },
        pool: 'hatchery-demo',
        vmids: { from: 10_000, to: 19_999 },
        ...over,
      }),
      secret: new Secret(simulator.token.secret),
      deployment,
      clock: systemClock,
      remoteTimeScale: 0.01,
      log: { warn: () => undefined },
    });

  async function aClone(vmid: number): Promise<CloneRequest> {
    const mark: Mark = {
      deployment,
      machine: randomUUID(),
      run: randomUUID(),
      step: 'clone',
      vmid,
      attempt: 1,
    };
    return {
      kind: 'qemu',
      template: (await driver.templates('qemu', [NAME], plainCall()))[0]!,
      vmid,
      name: `vm-${vmid}`,
      node: 'pve1',
      mode: 'linked',
      storage: undefined,
      description: describeWithMark('Machine', mark),
    };
  }
  const clones = (): number =>
    context.journal.read().filter((line) => line.event === 'request' && line.op === 'qemu.clone').length;

  it.each(CHANGES)('that %s after the plan is not cloned any more', async (_what, change, words) => {
    const clone = await aClone(12_000);
    change(simulator);
    const fresh = aDriver();
    await expect(fresh.startClone(clone, plainCall())).rejects.toMatchObject({
      code: 'template-changed',
      retry: 'after-fix',
      message: `Unable to clone template 9000: ${words}`,
    });
    fresh.close();
    expect(clones()).toBe(0);
  });

  it('is waited for while a task on its node may hold its lock', async () => {
    const clone = await aClone(12_000);
    simulator.hold('qemu.clone', 'task');
    await driver.startClone(clone, plainCall());
    simulator.foreign.edit(9000, { lock: 'backup' });
    const fresh = aDriver();
    await expect(fresh.startClone(await aClone(12_001), plainCall())).rejects.toMatchObject({
      code: 'lock-timeout',
      retry: 'later',
    });
    fresh.close();
    simulator.release('qemu.clone', 'task');
  });

  it('may carry a hook script that the site names', async () => {
    simulator.foreign.edit(9000, { hookscript: HOOK });
    expect((await driver.templates('qemu', [NAME], plainCall()))[0]!.problems).toHaveLength(1);
    const knowing = aDriver({ hookScripts: [HOOK] });
    expect((await knowing.templates('qemu', [NAME], plainCall()))[0]!.problems).toEqual([]);
    knowing.close();
  });
});
