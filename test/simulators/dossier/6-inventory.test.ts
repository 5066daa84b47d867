import { expect } from 'vitest';
import { replayDossier, type DossierBench } from '../../support/dossier-table.js';

type Row = Record<string, unknown>;
const rowOf = (vmid: number) => (rows: unknown) => (rows as Row[]).find((row) => row['vmid'] === vmid);
/** Reads cluster/resources until the row of this guest is as wanted: pvestatd reports every 10 s. */
async function untilShown(bench: DossierBench, vmid: number, wanted: (row: Row) => boolean): Promise<void> {
  for (;;) {
    const row = rowOf(vmid)(await bench.data('GET /cluster/resources?type=vm'));
    if (row && wanted(row)) return;
  }
}

/** Returns right after a cycle of pvestatd, so that the next one is far. */
async function afterCycle(bench: DossierBench): Promise<void> {
  bench.simulator.foreign.create({ vmid: 10_499, node: 'pve1', kind: 'qemu', owner: 'alice' });
  await untilShown(bench, 10_499, (row) => row['status'] !== 'unknown');
}

replayDossier('section 6: version and inventory', [
  {
    line: 158,
    says: 'the fields of a VM row',
    send: 'GET /cluster/resources?type=vm',
    expect: {
      data: expect.arrayContaining([
        expect.objectContaining({
          id: 'qemu/100',
          type: 'qemu',
          vmid: 100,
          node: 'pve1',
          name: 'gitlab',
          status: 'running',
          template: 0,
          pool: 'prod',
          uptime: expect.any(Number),
          cpu: expect.any(Number),
          maxcpu: 2,
          mem: expect.any(Number),
          maxmem: 2_147_483_648,
          disk: expect.any(Number),
          maxdisk: 34_359_738_368,
          netin: expect.any(Number),
          netout: expect.any(Number),
          diskread: expect.any(Number),
          diskwrite: expect.any(Number),
        }),
      ]),
    },
  },
  {
    line: 158,
    says: '9: memhost',
    send: 'GET /cluster/resources?type=vm',
    expect: { after: (_, reply) => expect(rowOf(100)(reply.json.data)).toHaveProperty('memhost') },
  },
  {
    line: 158,
    says: '8: no memhost',
    world: { version: '8.4' },
    send: 'GET /cluster/resources?type=vm',
    expect: { after: (_, reply) => expect(rowOf(100)(reply.json.data)).not.toHaveProperty('memhost') },
  },
  {
    line: 158,
    says: 'containers are in the inventory too',
    send: 'GET /cluster/resources?type=vm',
    expect: {
      data: expect.arrayContaining([
        expect.objectContaining({ id: 'lxc/10007', type: 'lxc', name: 'wiki', status: 'stopped' }),
      ]),
    },
  },
  {
    line: 158,
    says: 'type chooses one kind of rows',
    send: 'GET /cluster/resources?type=node',
    expect: {
      after: (_, reply) =>
        expect((reply.json.data as Row[]).map((row) => row['id'])).toEqual([
          'node/pve1',
          'node/pve2',
          'node/pve3',
        ]),
    },
  },
  {
    line: 159,
    says: 'hastate of a guest that HA manages',
    world: { ha: ['vm:104'] },
    send: 'GET /cluster/resources?type=vm',
    expect: {
      data: expect.arrayContaining([expect.objectContaining({ vmid: 104, hastate: expect.any(String) })]),
    },
  },
  {
    line: 159,
    says: 'lock, tags, node and pool are live',
    given: ({ simulator, world }) => {
      simulator.foreign.edit(100, { lock: 'backup', tags: 'new' });
      simulator.foreign.migrate(100, 'pve3');
      world.pools.get('prod')!.members.delete(100);
    },
    send: 'GET /cluster/resources?type=vm',
    expect: {
      after: (_, reply) => {
        const row = rowOf(100)(reply.json.data);
        expect(row).toMatchObject({ lock: 'backup', tags: 'new', node: 'pve3', name: 'gitlab' });
        expect(row).not.toHaveProperty('pool');
      },
    },
  },
  {
    line: 160,
    says: 'a fresh guest shows status unknown and neither name nor template',
    timeScale: 0.05,
    given: async (bench) => {
      await afterCycle(bench);
      bench.simulator.foreign.create({ vmid: 10_500, node: 'pve1', kind: 'qemu', owner: 'alice' });
    },
    send: 'GET /cluster/resources?type=vm',
    expect: {
      after: (_, reply) => {
        const row = rowOf(10_500)(reply.json.data);
        expect(row).toMatchObject({ id: 'qemu/10500', status: 'unknown' });
        for (const key of ['name', 'template', 'maxmem']) expect(row).not.toHaveProperty(key);
      },
    },
  },
  {
    line: 160,
    says: 'the next cycle tells name and status',
    given: ({ simulator }) =>
      simulator.foreign.create({
        vmid: 10_500,
        node: 'pve1',
        kind: 'qemu',
        owner: 'alice',
        name: 'late',
      }),
    send: 'GET /cluster/resources?type=vm',
    expect: {
      after: (bench) =>
        untilShown(
          bench,
          10_500,
          (row) => row['name'] === 'late' && row['status'] === 'running' && row['template'] === 0,
        ),
    },
  },
  {
    line: 160,
    says: 'a guest that was stopped is stale until the next cycle',
    timeScale: 0.05,
    given: async (bench) => {
      await afterCycle(bench);
      bench.simulator.foreign.setRunning(100, false);
    },
    send: 'GET /cluster/resources?type=vm',
    expect: {
      data: expect.arrayContaining([expect.objectContaining({ vmid: 100, status: 'running' })]),
    },
  },
  {
    line: 162,
    says: 'a re-used id first shows its dead predecessor',
    timeScale: 0.05,
    given: async (bench) => {
      const { simulator } = bench;
      await afterCycle(bench);
      simulator.foreign.remove(100);
      simulator.foreign.create({
        vmid: 100,
        node: 'pve1',
        kind: 'qemu',
        owner: 'bob',
        name: 'successor',
        running: false,
      });
    },
    send: 'GET /cluster/resources?type=vm',
    expect: {
      data: expect.arrayContaining([
        expect.objectContaining({ vmid: 100, name: 'gitlab', status: 'running' }),
      ]),
    },
  },
  {
    line: 161,
    says: 'guests of a node that is off keep their last status for 5 min',
    given: ({ simulator }) => simulator.conditions.powerOff('pve3'),
    send: 'GET /cluster/resources?type=vm',
    expect: {
      data: expect.arrayContaining([expect.objectContaining({ vmid: 104, node: 'pve3', status: 'running' })]),
    },
  },
  {
    line: 162,
    says: 'only guests with VM.Audit appear',
    world: { tokens: [{ id: 'eve@pve!tok', acl: [{ path: '/vms/104', privileges: ['VM.Audit'] }] }] },
    send: { call: 'GET /cluster/resources?type=vm', as: { token: 'eve@pve!tok' } },
    expect: { data: [expect.objectContaining({ vmid: 104 })] },
  },
  {
    line: 162,
    says: 'storage rows: one per node',
    send: 'GET /cluster/resources?type=storage',
    expect: {
      data: expect.arrayContaining(
        ['pve1', 'pve2', 'pve3'].map((node) =>
          expect.objectContaining({
            id: `storage/${node}/ceph`,
            type: 'storage',
            storage: 'ceph',
            node,
            plugintype: 'rbd',
            shared: 1,
            content: expect.stringContaining('images'),
            disk: expect.any(Number),
            maxdisk: expect.any(Number),
            status: 'available',
          }),
        ) as unknown[],
      ),
    },
  },
  {
    line: 162,
    says: 'the storages of a node that is off are unknown',
    given: ({ simulator }) => simulator.conditions.powerOff('pve3'),
    send: 'GET /cluster/resources?type=storage',
    expect: {
      after: async ({ data }) => {
        for (;;) {
          const rows = await data<Row[]>('GET /cluster/resources?type=storage');
          const statusOf = (id: string): unknown => rows.find((row) => row['id'] === id)?.['status'];
          expect(statusOf('storage/pve1/ceph')).toBe('available');
          if (statusOf('storage/pve3/ceph') === 'unknown') return;
        }
      },
    },
  },
  {
    line: 163,
    says: 'node rows are online or offline',
    given: ({ simulator }) => simulator.conditions.powerOff('pve2'),
    send: 'GET /cluster/resources?type=node',
    expect: {
      data: expect.arrayContaining([
        expect.objectContaining({ node: 'pve1', status: 'online' }),
        expect.objectContaining({ node: 'pve2', status: 'offline' }),
      ]),
    },
  },
  {
    line: 163,
    says: 'cluster/status: the cluster and its nodes',
    send: 'GET /cluster/status',
    expect: {
      data: expect.arrayContaining([
        expect.objectContaining({
          type: 'cluster',
          name: 'simcluster',
          nodes: 3,
          quorate: 1,
          version: expect.any(Number),
        }),
        expect.objectContaining({
          type: 'node',
          id: 'node/pve1',
          name: 'pve1',
          nodeid: 1,
          ip: expect.any(String),
          online: 1,
          local: 1,
          level: '',
        }),
        expect.objectContaining({ type: 'node', name: 'pve2', local: 0 }),
      ]),
    },
  },
  {
    line: 163,
    says: 'cluster/status needs Sys.Audit',
    world: { tokens: [{ id: 'eve@pve!tok', acl: [] }] },
    send: { call: 'GET /cluster/status', as: { token: 'eve@pve!tok' } },
    expect: { status: 403, error: 'Permission check failed (/, Sys.Audit)' },
  },
  {
    line: 163,
    says: 'cluster/status without quorum',
    given: ({ simulator }) => simulator.conditions.loseQuorum(),
    send: 'GET /cluster/status',
    expect: {
      data: expect.arrayContaining([expect.objectContaining({ type: 'cluster', quorate: 0 })]),
    },
  },
  {
    line: 163,
    says: 'GET /nodes',
    send: 'GET /nodes',
    expect: {
      data: expect.arrayContaining([
        expect.objectContaining({ node: 'pve1', status: 'online', type: 'node', id: 'node/pve1' }),
      ]),
    },
  },
  {
    line: 163,
    says: 'the status of a node',
    send: 'GET /nodes/pve1/status',
    expect: {
      data: expect.objectContaining({
        cpu: expect.any(Number),
        memory: expect.objectContaining({
          total: expect.any(Number),
          used: expect.any(Number),
          free: expect.any(Number),
        }),
        rootfs: expect.any(Object),
        cpuinfo: expect.any(Object),
        loadavg: [expect.any(String), expect.any(String), expect.any(String)],
        pveversion: expect.stringMatching(/^pve-manager\/9\.1/),
        uptime: expect.any(Number),
      }),
    },
  },
  {
    line: 164,
    says: 'GET /version',
    send: 'GET /version',
    expect: {
      data: expect.objectContaining({
        version: expect.stringMatching(/^9\.1\./),
        release: '9.1',
        repoid: expect.stringMatching(/^[0-9a-f]+$/),
      }),
    },
  },
  {
    line: 164,
    says: 'GET /version of 8.4',
    world: { version: '8.4' },
    send: 'GET /version',
    expect: {
      data: expect.objectContaining({
        version: expect.stringMatching(/^8\.4\./),
        release: '8.4',
        repoid: expect.any(String),
      }),
    },
  },
  {
    line: 165,
    says: 'the list of a node is live',
    given: ({ simulator }) => simulator.foreign.setRunning(100, false),
    send: 'GET /nodes/pve1/qemu',
    expect: {
      data: expect.arrayContaining([
        expect.objectContaining({ vmid: 100, status: 'stopped', name: 'gitlab' }),
      ]),
    },
  },
  {
    line: 165,
    says: 'the containers of a node',
    send: 'GET /nodes/pve2/lxc',
    expect: {
      data: [
        expect.objectContaining({ vmid: 9101, template: 1, type: 'lxc' }),
        expect.objectContaining({ name: 'proxy', status: 'running', type: 'lxc' }),
      ],
    },
  },
  {
    line: 165,
    says: 'status/current of a running guest',
    given: ({ simulator }) => simulator.foreign.edit(100, { agent: '1', tags: 'a' }),
    send: 'GET /nodes/pve1/qemu/100/status/current',
    expect: {
      data: expect.objectContaining({
        vmid: 100,
        status: 'running',
        qmpstatus: 'running',
        ha: { managed: 0 },
        agent: 1,
        pid: expect.any(Number),
        tags: 'a',
      }),
    },
  },
  {
    line: 166,
    says: 'qmpstatus of a paused guest',
    given: (bench) => bench.task('POST /nodes/pve1/qemu/100/status/suspend'),
    send: 'GET /nodes/pve1/qemu/100/status/current',
    expect: { data: expect.objectContaining({ status: 'running', qmpstatus: 'paused' }) },
  },
  {
    line: 166,
    says: 'ha of a guest that HA manages',
    world: { ha: ['vm:104'] },
    send: 'GET /nodes/pve3/qemu/104/status/current',
    expect: {
      data: expect.objectContaining({ ha: expect.objectContaining({ managed: 1 }) }),
    },
  },
  {
    line: 166,
    says: 'template is shown',
    send: 'GET /nodes/pve1/qemu/9000/status/current',
    expect: { data: expect.objectContaining({ template: 1, status: 'stopped', qmpstatus: 'stopped' }) },
  },
  {
    line: 210,
    says: 'the storages of a node',
    send: 'GET /nodes/pve1/storage',
    expect: {
      data: expect.arrayContaining([
        expect.objectContaining({
          storage: 'ceph',
          type: 'rbd',
          active: 1,
          shared: 1,
          total: expect.any(Number),
          used: expect.any(Number),
          avail: expect.any(Number),
        }),
        expect.objectContaining({ storage: 'local-lvm', type: 'lvmthin', shared: 0 }),
      ]),
    },
  },
  {
    line: 210,
    says: 'content chooses storages',
    world: {
      storages: [
        { id: 'ceph', type: 'rbd', shared: true, sizeGiB: 100 },
        { id: 'isos', type: 'nfs', shared: true, sizeGiB: 100, content: ['iso'] },
      ],
    },
    send: 'GET /nodes/pve1/storage?content=iso',
    expect: { data: [expect.objectContaining({ storage: 'isos' })] },
  },
  {
    line: 210,
    says: 'enabled=1 leaves out those that are disabled',
    world: {
      storages: [
        { id: 'ceph', type: 'rbd', shared: true, sizeGiB: 100 },
        { id: 'old', type: 'nfs', shared: true, sizeGiB: 100, isDisabled: true },
      ],
    },
    send: 'GET /nodes/pve1/storage?enabled=1',
    expect: { data: [expect.objectContaining({ storage: 'ceph' })] },
  },
  {
    line: 211,
    says: 'the content of a storage',
    given: (bench) => bench.clone(),
    send: 'GET /nodes/pve1/storage/ceph/content?vmid=10500',
    expect: {
      data: expect.arrayContaining([
        expect.objectContaining({
          volid: 'ceph:base-9000-disk-0/vm-10500-disk-0',
          content: 'images',
          format: 'raw',
          size: 8_589_934_592,
          vmid: 10_500,
          parent: 'base-9000-disk-0@__base__',
        }),
      ]),
    },
  },
  {
    line: 211,
    says: 'content=images leaves out other files',
    world: {
      storages: [{ id: 'nas', type: 'nfs', shared: true, sizeGiB: 100, content: ['images', 'snippets'] }],
      templates: [{ vmid: 9000, node: 'pve1', name: 't', storage: 'nas' }],
      files: [{ volid: 'nas:snippets/user.yaml', text: '#cloud-config\n' }],
    },
    send: 'GET /nodes/pve1/storage/nas/content?content=snippets',
    expect: { data: [expect.objectContaining({ volid: 'nas:snippets/user.yaml', content: 'snippets' })] },
  },
]);
