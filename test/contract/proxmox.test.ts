import { randomUUID } from 'node:crypto';
import { clusterSchema } from '../../src/core/definitions.js';
import { ProxmoxDriver } from '../../src/drivers/proxmox/proxmox.driver.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import { Secret } from '../../src/ports/secrets.js';
import { createContext } from '../../src/simulators/create-context.js';
import { startProxmoxSimulator } from '../../src/simulators/proxmox/proxmox-simulator.js';
import type { World } from '../../src/simulators/world.js';
import { aUse } from '../support/intended-use.js';
import { hypervisorContract, type HypervisorSetup } from './hypervisor.contract.js';

const SCALE = 0.01;

/** What passes here passes with both versions, and with a token as with a password. */
for (const version of ['8.4', '9.1'] as const)
  for (const by of ['token', 'account'] as const)
    hypervisorContract(`Proxmox VE ${version} over REST, signed in by ${by}`, () => start(version, by));

async function start(version: World['version'], by: 'token' | 'account'): Promise<HypervisorSetup> {
  const context = createContext({ timeScale: SCALE, seed: 'contract', world: { version } });
  const simulator = await startProxmoxSimulator(context);
  const deployment = randomUUID();
  const pool = 'hatchery-demo';
  const driver = new ProxmoxDriver({
    definition: clusterSchema.parse({
      name: 'main',
      kind: 'proxmox',
      endpoints: simulator.endpoints,
      trust: { fingerprints: simulator.fingerprints },
      ...(by === 'token'
        ? { token: { id: simulator.token.id, secret: { env: 'NOT_READ' } } }
        : { account: { username: simulator.token.id.split('!')[0], password: { env: 'NOT_READ' } } }),
      pool,
      vmids: { from: 10_000, to: 19_999 },
    }),
    secret: new Secret(by === 'token' ? simulator.token.secret : simulator.userPassword),
    deployment,
    clock: systemClock,
    remoteTimeScale: SCALE,
    log: { warn: () => undefined },
  });
  const template = simulator.guest(9000)!;
  return {
    hypervisor: driver,
    deployment,
    pool,
    template: 'debian-12-xfce',
    nodes: ['pve1', 'pve2'],
    fullStorage: 'ceph',
    use: aUse(),
    foreignQemu: 10_003,
    foreignLxc: 10_007,
    remote(vmid) {
      const guest = simulator.guest(vmid);
      if (!guest) return undefined;
      const { config } = guest;
      const members = context.world.pools.get(pool)?.members;
      return {
        name: config['name'],
        node: guest.node,
        pool: members?.has(vmid) ? pool : undefined,
        running: guest.status === 'running',
        mac: /=([0-9A-F:]{17})/.exec(config['net0'] ?? '')?.[1]?.toLowerCase(),
        description: config['description'],
        memoryMiB: Number(config['memory']),
        cores: Number(config['cores']),
        sshKeys: decodeURIComponent(config['sshkeys'] ?? ''),
        diskGiB: Number(/size=(\d+)G/.exec(config['scsi0'] ?? '')?.[1]),
      };
    },
    allowMac: (mac) => void context.world.dhcp.allow.set(mac, { description: 'test' }),
    makeForeign: (vmid, description) =>
      void simulator.foreign.create({ vmid, node: 'pve3', kind: 'qemu', owner: 'alice', description }),
    removeByHand: (vmid) => simulator.foreign.remove(vmid),
    migrateByHand: (vmid, node) => simulator.foreign.migrate(vmid, node),
    startByHand: (vmid) => simulator.foreign.setRunning(vmid, true),
    changeTemplate: (isChanged) => {
      if (isChanged) template.config['tags'] = 'changed';
      else delete template.config['tags'];
    },
    holdClones: () => simulator.hold('qemu.clone', 'task'),
    clonesHeld: (count) => simulator.reached('qemu.clone', 'task', count),
    releaseClones: () => simulator.release('qemu.clone', 'task'),
    async stop() {
      driver.close();
      await simulator.stop();
      context.close();
    },
  };
}
