import { describe, expect, it } from 'vitest';
import { clusterSchema } from '../../core/definitions.js';
import { HatcheryError } from '../../core/errors.js';
import { describeWithMark, type Mark } from '../../core/mark.js';
import { plainCall } from '../../ports/call.js';
import { noNews } from '../../ports/shared-news.js';
import type { Cluster } from './cluster.js';
import type { ReadRequest } from './http.js';
import { GuestReads } from './guests.js';
import { ClusterReads } from './inventory.js';

const mark: Mark = {
  deployment: '0190aaaa-0000-7000-8000-000000000001',
  machine: '0190aaaa-0000-7000-8000-000000000002',
  run: '0190aaaa-0000-7000-8000-000000000003',
  step: 'clone-template',
  vmid: 10_001,
  attempt: 1,
};
const MISSING = new HatcheryError('remote-refused', 'Unable to read: does not exist', {
  facts: { reason: 'config-missing' },
});
const TAKEN = new HatcheryError('remote-refused', 'Unable to look up: exists', {
  facts: { reason: 'already-exists' },
});
const DOWN = new HatcheryError('cluster-unreachable', 'Unable to read: no route to host', { retry: 'later' });
const node = { type: 'node', node: 'pve1', status: 'online', maxcpu: 8, maxmem: '1073741824', mem: 0 };

/** A cluster whose answers a test writes down by path; an error is thrown, an array gives one answer after the other. */
function aCluster(answers: Record<string, unknown>, over: Record<string, unknown> = {}) {
  const asked: string[] = [];
  const left = new Map(Object.entries(answers));
  const read = async ({ path }: ReadRequest): Promise<{ data: unknown; total: undefined }> => {
    asked.push(path);
    const answer = left.get(path);
    const one: unknown = Array.isArray(answer) && answer[0] === 'then' ? answer.splice(1, 1)[0] : answer;
    if (one instanceof Error) throw one;
    return { data: one, total: undefined };
  };
  let nowMs = 0;
  const cluster: Cluster = {
    definition: clusterSchema.parse({
      name: 'main',
      kind: 'proxmox',
      endpoints: ['https://pve1:8006'],
      trust: { system: true },
      token: { id: 'hatchery@pve!lab', secret: { env: 'X' } },
      pool: 'hatchery-lab',
      vmids: { from: 10_000, to: 19_999 },
      ...over,
    }),
    deployment: mark.deployment,
    http: { read } as unknown as Cluster['http'],
    clock: { monotonicMs: () => (nowMs += 1), wallMs: () => 0, sleep: async () => {} },
    remoteTimeScale: 1,
    log: { warn: () => undefined },
    news: noNews,
  };
  const reads = new ClusterReads(cluster);
  return { guests: new GuestReads(cluster, reads), reads, asked };
}

const quorate = [{ type: 'cluster', quorate: 1 }];
const row = (over: object = {}) => ({
  type: 'qemu',
  vmid: '10001',
  node: 'pve1',
  status: 'unknown',
  ...over,
});
const config = { digest: 'd', description: describeWithMark('x', mark) };
const signal = new AbortController().signal;

/** We may see some guests only. */
const blind = { '/cluster/resources': [node], '/access/permissions': {} };

describe('looking up a VMID', () => {
  const lookup = (answers: Record<string, unknown>) =>
    aCluster(answers).guests.lookupVmid(10_001, plainCall());

  it('is free only if inventory and id table agree and the cluster has quorum', async () => {
    const answers = { ...blind, '/cluster/nextid': '10001', '/cluster/status': quorate };
    expect(await lookup(answers)).toEqual({ answer: 'free' });
    const lost = [{ type: 'cluster', quorate: 0 }];
    expect((await lookup({ ...answers, '/cluster/status': lost })).answer).toBe('unknown');
    expect((await lookup({ ...answers, '/cluster/nextid': '10002' })).answer).toBe('unknown');
  });

  it('is used by a guest of either kind, and by one that we may not see', async () => {
    expect(await lookup({ '/cluster/resources': [node, row()] })).toEqual({
      answer: 'used',
      by: 'qemu 10001 on pve1',
    });
    expect((await lookup({ '/cluster/resources': [node, row({ type: 'lxc' })] })).answer).toBe('used');
    expect((await lookup({ ...blind, '/cluster/nextid': TAKEN })).answer).toBe('used');
  });

  it('is unknown on any error and on any answer that cannot be read', async () => {
    const rest = { ...blind, '/cluster/nextid': '10001', '/cluster/status': quorate };
    for (const resources of [DOWN, [], 'no', null, [node, row({ vmid: 'x' })], [node, row({ node: '../x' })]])
      expect((await lookup({ ...rest, '/cluster/resources': resources })).answer).toBe('unknown');
    for (const nextid of [DOWN, null, {}, ''])
      expect((await lookup({ ...rest, '/cluster/nextid': nextid })).answer).toBe('unknown');
    for (const permissions of [DOWN, null, 'no'])
      expect((await lookup({ ...rest, '/access/permissions': permissions })).answer).toBe('unknown');
  });

  it('asks the id table for no single id while the inventory shows every guest, and only then', async () => {
    const answers = { '/cluster/resources': [node], '/cluster/status': quorate };
    const ids = [10_001, 10_002, 10_003];
    const asked = async (audit: object): Promise<string[]> => {
      const cluster = aCluster({ ...answers, '/access/permissions': { '/vms': audit } });
      await Promise.all(ids.map((vmid) => cluster.guests.lookupVmid(vmid, plainCall())));
      return cluster.asked;
    };
    const seeing = await asked({ 'VM.Audit': 1 });
    expect(seeing).toEqual(['/cluster/resources', '/access/permissions', '/cluster/status']);
    for (const audit of [{}, { 'VM.Audit': 0 }, { 'VM.Clone': 1 }])
      expect((await asked(audit)).filter((path) => path === '/cluster/nextid')).toHaveLength(3);
  });
});

describe('reading a guest of ours', () => {
  const CONFIG = '/nodes/pve1/qemu/10001/config';

  it('reads one config, and the pool only where it was asked for, live: a fresh guest is not in a kept inventory', async () => {
    const { guests, asked } = aCluster({
      '/cluster/resources': [node, row()],
      [CONFIG]: config,
      '/pools': [{ poolid: 'hatchery-lab', members: [{ vmid: 10_001 }, { storage: 'ceph' }] }],
    });
    expect(await guests.readOwn({ ...mark, node: 'pve1' }, plainCall())).toMatchObject({ answer: 'ours' });
    expect(asked).toEqual([CONFIG]);
    expect(await guests.readOwn(mark, plainCall(), { withPool: true })).toMatchObject({
      answer: 'ours',
      guest: { node: 'pve1', pool: 'hatchery-lab' },
    });
  });

  it('looks once more in a fresh inventory before it says anything about a guest that is not where it was', async () => {
    const { guests, asked } = aCluster({
      '/cluster/resources': ['then', [node, row()], [node, row({ node: 'pve2', pool: 'hatchery-lab' })]],
      [CONFIG]: MISSING,
      '/cluster/nextid': TAKEN,
      '/nodes/pve2/qemu/10001/config': { ...config, lock: 'migrate' },
    });
    expect(await guests.readOwn(mark, plainCall())).toMatchObject({
      answer: 'ours',
      guest: { node: 'pve2' },
    });
    expect(asked.filter((path) => path === '/cluster/resources')).toHaveLength(2);
  });

  it('calls it gone only when the id is free, too', async () => {
    const base = { '/cluster/resources': [node, row()], [CONFIG]: MISSING, '/cluster/status': quorate };
    const read = async (nextid: unknown) =>
      (await aCluster({ ...base, '/cluster/nextid': nextid }).guests.readOwn(mark, plainCall())).answer;
    expect(await read('10001')).toBe('none');
    expect(await read(TAKEN)).toBe('unknown');
    expect(await read(DOWN)).toBe('unknown');
  });

  it('reads a container as one, with its MAC as what tells it from others', async () => {
    const { guests } = aCluster({
      '/cluster/resources': [node, row({ type: 'lxc' })],
      '/nodes/pve1/lxc/10001/config': {
        ...config,
        hostname: 'ct-alice',
        rootfs: 'ceph:vm-10001-disk-0,size=10G',
        mp0: '/mnt/home,mp=/home',
        net0: 'name=eth0,bridge=vmbr0,hwaddr=02:00:00:00:00:0A,ip=dhcp,type=veth',
      },
    });
    expect(await guests.readOwn({ ...mark, kind: 'lxc' }, plainCall())).toMatchObject({
      answer: 'ours',
      guest: {
        kind: 'lxc',
        name: 'ct-alice',
        incarnation: '02:00:00:00:00:0a',
        mac: '02:00:00:00:00:0a',
        disks: { rootfs: { volume: 'ceph:vm-10001-disk-0', sizeGiB: 10 } },
      },
    });
  });

  it('does not take a container for it, nor a node that is away for an empty one', async () => {
    const container = aCluster({ '/cluster/resources': [node, row({ type: 'lxc' })] });
    const machine = { ...mark, kind: 'qemu' } as const;
    expect((await container.guests.readOwn(machine, plainCall())).answer).toBe('foreign');
    const away = aCluster({ '/cluster/resources': [node, row()], [CONFIG]: DOWN });
    expect((await away.guests.readOwn(mark, plainCall())).answer).toBe('unknown');
  });
});

describe('the inventory', () => {
  it('shows a shared storage once, with the numbers of a node that sees it, and tells the excluded nodes apart', async () => {
    const storage = (over: object) => ({ type: 'storage', storage: 'ceph', shared: 1, ...over });
    const answers = {
      '/cluster/resources': [
        node,
        { ...node, node: 'pve2' },
        storage({ node: 'pve1', maxdisk: 0, disk: 0 }),
        storage({ node: 'pve2', maxdisk: 2 * 1024 ** 3, disk: '1073741824' }),
        storage({ node: 'pve1', storage: 'local', shared: 0, maxdisk: 1024 ** 3 }),
        { type: 'sdn', sdn: 'localnetwork' },
      ],
    };
    const map = await aCluster(answers, { nodes: { exclude: ['pve2'] } }).reads.map(0, signal);
    expect(map.nodes.map(({ name }) => name)).toEqual(['pve1', 'pve2']);
    expect(map.usedNodes.map(({ name }) => name)).toEqual(['pve1']);
    expect(map.storages).toEqual([
      { id: 'ceph', node: undefined, shared: true, totalGiB: 2, usedGiB: 1 },
      { id: 'local', node: 'pve1', shared: false, totalGiB: 1, usedGiB: 0 },
    ]);
  });
});
