import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { FaultRule } from '../../src/simulators/faults.js';
import { startSimulators, type Simulators } from '../../src/simulators/simulators.js';
import { WireClient } from './proxmox-client.js';

const NO_QUORUM = 'cluster not ready - no quorum?';
const CLONE = '/nodes/pve1/qemu/9000/clone';

let dir: string;
let running: Simulators & Required<Pick<Simulators, 'proxmox'>>;
let client: WireClient;

async function start(): Promise<void> {
  running = (await startSimulators({
    which: ['proxmox'],
    timeScale: 0.002,
    stateFile: join(dir, 'state.json'),
  })) as typeof running;
  client = new WireClient(running.proxmox);
}
async function stop(): Promise<void> {
  client.close();
  await running.stop();
}
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'hatchery-conditions-'));
  await start();
});
afterEach(async () => {
  await stop();
  await rm(dir, { recursive: true, force: true });
});

const add = (rule: Omit<FaultRule, 'id'>): void => running.context.faults.add({ id: 'rule', ...rule });
const ops = (prefix: string): string[] =>
  running.context.journal.read().flatMap(({ op }) => (op?.startsWith(prefix) ? [op] : []));
const clone = (newid: number, more = {}): ReturnType<WireClient['post']> =>
  client.post(CLONE, { newid, pool: 'hatchery-demo', ...more });
async function made(newid: number, more = {}): Promise<void> {
  expect((await client.task(await clone(newid, more))).exit).toBe('OK');
}

describe('a cluster without quorum', () => {
  it('refuses every write with the words of the real one and answers reads', async () => {
    await made(10_100);
    running.proxmox.conditions.loseQuorum();
    expect(await clone(10_101)).toMatchObject({ status: 500, reason: NO_QUORUM });
    const guest = '/nodes/pve1/qemu/10100';
    expect(await client.put(`${guest}/config`, { cores: 4 })).toMatchObject({
      status: 500,
      reason: NO_QUORUM,
    });
    const resize = await client.put(`${guest}/resize`, { disk: 'scsi0', size: '20G' });
    expect((await client.task(resize)).exit).toBe(NO_QUORUM);
    expect((await client.task(await client.delete(guest))).exit).toBe(NO_QUORUM);
    expect((await client.put('/pools', { poolid: 'hatchery-demo', comment: 'x' })).reason).toBe(
      `update pools failed: ${NO_QUORUM}`,
    );
    expect((await client.get(`${guest}/config`)).status).toBe(200);
    running.proxmox.conditions.regainQuorum();
    await made(10_101);
  });

  it('is what is left when half of the nodes are off', async () => {
    const { conditions } = running.proxmox;
    await conditions.powerOff('pve2');
    await made(10_100);
    await conditions.powerOff('pve3');
    expect((await clone(10_101)).reason).toBe(NO_QUORUM);
    await conditions.powerOn('pve3');
    await made(10_101);
  });
});

describe('a node that is off', () => {
  it('accepts no connection, is answered for with 595, and its tasks end without a verdict or clean-up', async () => {
    const { proxmox, world } = running;
    proxmox.hold('qemu.clone', 'task');
    const started = await clone(10_100);
    await proxmox.reached('qemu.clone', 'task');
    await proxmox.conditions.powerOff('pve1');
    const other = client.at(1);
    await expect(client.at(0).get('/version')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    expect(await other.get('/nodes/pve1/qemu')).toMatchObject({
      status: 595,
      reason: 'No route to host',
      text: '',
    });
    expect(proxmox.guest(100)?.status).toBe('stopped');
    proxmox.release('qemu.clone', 'task');
    await proxmox.conditions.powerOn('pve1');
    const { exit, log } = await client.task(started);
    expect([exit, log.at(-1)]).toEqual(['unexpected status', 'creating a clone of VM 9000 with ID 10100']);
    expect(world.guests.get(10_100)?.config['lock']).toBe('clone');
    expect(ops('condition.')).toEqual(['condition.power-off', 'condition.power-on']);
    other.close();
  });

  it('starts only guests with onboot when it is back, and is still off after a restart of the simulator', async () => {
    running.proxmox.foreign.edit(104, { onboot: '1' });
    running.proxmox.foreign.create({ vmid: 105, node: 'pve3', kind: 'qemu', owner: 'bob' });
    await running.proxmox.conditions.powerOff('pve3');
    await stop();
    await start();
    const other = client.at(2);
    await expect(other.get('/version')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await running.proxmox.conditions.powerOn('pve3');
    expect((await other.get('/version')).status).toBe(200);
    expect([104, 105].map((vmid) => running.proxmox.guest(vmid)?.status)).toEqual(['running', 'stopped']);
    other.close();
  });
});

describe('a full storage', () => {
  it('lets no copy end and shows what is left', async () => {
    running.proxmox.conditions.fillStorage('ceph', 1);
    const [ceph] = (await client.get('/nodes/pve1/storage?storage=ceph')).json.data as { avail: number }[];
    expect(Math.round(ceph!.avail / 1024 ** 3)).toBe(1);
    const { exit } = await client.task(await clone(10_100, { full: 1 }));
    expect(exit).toMatch(/^clone failed: .*No space left on device|no space left on device/i);
    expect(running.proxmox.guest(10_100)).toBeUndefined();
    running.proxmox.conditions.emptyStorage('ceph');
    await made(10_100, { full: 1 });
  });
});

describe('fault rules that act', () => {
  it('let somebody else be faster', async () => {
    const act = { do: 'foreign-create', owner: 'bob' };
    add({ match: { op: 'qemu.clone' }, effect: 'act', value: act });
    expect((await clone(10_100)).reason).toBe('unable to create VM 10100: config file already exists');
    expect(running.proxmox.guest(10_100)?.owner).toBe('bob');
  });

  it('say so in the journal when the world does not allow it', async () => {
    add({ match: { op: 'qemu.list' }, effect: 'act', value: { do: 'foreign-delete', vmid: 555 } });
    await client.get('/nodes/pve1/qemu');
    const line = running.context.journal.read().find(({ op }) => op === 'condition.foreign-delete');
    expect(line).toMatchObject({ effect: false, params: { error: 'there is no guest 555' } });
  });

  it('end by themselves', async () => {
    const act = { do: 'lock-guest', lock: 'backup', forMs: 2_000 };
    add({ match: { op: 'qemu.clone' }, when: 'end', effect: 'act', value: act });
    await made(10_100);
    const locks = (): unknown[] =>
      running.context.journal
        .read()
        .flatMap(({ op, params }) => (op === 'foreign.edit' ? [params?.['lock']] : []));
    await expect.poll(locks).toEqual(['backup', null]);
    expect(running.proxmox.guest(10_100)?.config['lock']).toBeUndefined();
  });

  it('end by themselves also after a restart of the simulator', async () => {
    add({ match: { op: 'version' }, effect: 'act', value: { do: 'lose-quorum', forMs: 500_000 } });
    await client.get('/version');
    await stop();
    await start();
    expect((await clone(10_100)).reason).toBe(NO_QUORUM);
    await expect.poll(() => running.world.conditions.quorumLost).toBe(false);
    await made(10_100);
  });

  it('kill the task in its middle', async () => {
    add({ match: { op: 'qemu.clone' }, when: 'during', effect: 'act', value: { do: 'kill-task' } });
    expect((await client.task(await clone(10_100))).exit).toBe('unexpected status');
    expect(running.proxmox.guest(10_100)?.config).toMatchObject({ lock: 'clone' });
  });

  it('hold a lock that others need', async () => {
    const act = { do: 'hold-file-lock', vmid: 9_000, forMs: 100_000 };
    add({ match: { op: 'qemu.clone', nth: 1 }, effect: 'act', value: act });
    const { exit } = await client.task(await clone(10_100));
    expect(exit).toBe("can't lock file '/var/lock/qemu-server/lock-9000.conf' - got timeout");
  });

  it('take a right away and give it back', async () => {
    const right = { path: '/sdn/zones/localnetwork', privileges: ['SDN.Use'] };
    add({ match: { op: 'qemu.clone', nth: 1 }, effect: 'act', value: { do: 'revoke', ...right } });
    add({ match: { op: 'qemu.clone', nth: 2 }, effect: 'act', value: { do: 'grant', ...right } });
    expect(await clone(10_100)).toMatchObject({ status: 403 });
    await made(10_100);
  });

  it('are refused with the place and the names when they are written wrong', () => {
    const wrong =
      (value: unknown): (() => void) =>
      () =>
        add({ effect: 'act', value });
    expect(wrong({ do: 'explode' })).toThrow(/foreign-create/);
    expect(wrong({ do: 'lock-guest' })).toThrow(/lock/);
    expect(wrong({ do: 'lose-quorum', forms: 3 })).toThrow(/forms/);
  });
});

describe('answers that are not whole', () => {
  it('end in the middle', async () => {
    add({ match: { op: 'version' }, when: 'after', effect: 'truncate', value: 10 });
    await expect(client.get('/version')).rejects.toThrow();
  });

  it('lack a field', async () => {
    await made(10_100);
    add({ match: { op: 'task.status' }, when: 'after', effect: 'omit', value: 'exitstatus' });
    const upid = running.context.journal.read().find(({ event }) => event === 'task-start')!.upid!;
    const status = await client.get(`/nodes/pve1/tasks/${encodeURIComponent(upid)}/status`);
    expect(status.json.data).toMatchObject({ status: 'stopped' });
    expect(status.json.data).not.toHaveProperty('exitstatus');
  });

  it('name warnings', async () => {
    add({ match: { op: 'qemu.clone' }, effect: 'act', value: { do: 'warn', count: 2 } });
    expect((await client.task(await clone(10_100))).exit).toBe('WARNINGS: 2');
  });
});

describe('what a guest shows', () => {
  it('is hidden for a while, and its agent is as the rule says', async () => {
    await made(10_100);
    const guest = '/nodes/pve1/qemu/10100';
    const { conditions } = running.proxmox;
    conditions.hideConfig(10_100, 1_000_000);
    expect((await client.get(`${guest}/config`)).reason).toContain('does not exist');
    conditions.hideConfig(10_100, 0);
    conditions.hideVolumes(10_100, 1_000_000);
    const { exit } = await client.task(await client.post(`${guest}/status/start`));
    expect(exit).toMatch(/^volume 'ceph:.*vm-10100-cloudinit' does not exist$/);
    conditions.hideVolumes(10_100, 0);
    await client.task(await client.post(`${guest}/status/start`));
    const ask = (): ReturnType<WireClient['get']> => client.get(`${guest}/agent/network-get-interfaces`);
    conditions.setAgent(10_100, { afterMs: null, extraNics: 0 });
    expect((await ask()).reason).toBe('QEMU guest agent is not running');
    conditions.setAgent(10_100, { afterMs: 0, extraNics: 3 });
    const { result } = (await ask()).json.data as { result: { name: string }[] };
    expect(result.map(({ name }) => name).sort()).toEqual(['docker0', 'docker1', 'docker2', 'eth0', 'lo']);
  });
});
