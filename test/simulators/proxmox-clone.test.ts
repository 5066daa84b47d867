import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createContext } from '../../src/simulators/create-context.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';
import { WireClient, type WireReply } from './proxmox-client.js';

const MARK =
  '[hatchery v1 deployment=11111111-1111-4111-8111-111111111111 machine=22222222-2222-4222-8222-222222222222 run=33333333-3333-4333-8333-333333333333 step=clone vmid=10000 attempt=1]';

describe('cloning a template', () => {
  let context: ReturnType<typeof createContext>;
  let simulator: ProxmoxSimulator;
  let client: WireClient;

  beforeEach(async () => {
    context = createContext({ timeScale: 0.002 });
    simulator = await startProxmoxSimulator(context);
    client = new WireClient(simulator);
  });
  afterEach(async () => {
    client.close();
    await simulator.stop();
    context.close();
  });

  const clone = (newid: number, more: Record<string, string | number> = {}): Promise<WireReply> =>
    client.post('/nodes/pve1/qemu/9000/clone', {
      newid,
      pool: 'hatchery-demo',
      name: `vm-${newid}`,
      ...more,
    });

  it('answers with a UPID that names the source and ends OK with the guest in the pool', async () => {
    const started = await clone(10_000, { description: `for a student\n${MARK}` });
    expect(started.status).toBe(200);
    expect(started.json.data).toMatch(
      /^UPID:pve1:[0-9A-F]{8}:[0-9A-F]{8,9}:[0-9A-F]{8}:qmclone:9000:hatchery@pve!demo:$/,
    );
    const { exit, log } = await client.task(started);
    expect(exit).toBe('OK');
    expect(log[0]).toBe('creating a clone of VM 9000 with ID 10000');
    expect(log).toContain('create full clone of drive ide2 (ceph:vm-9000-cloudinit)');
    expect(log).toContain('create linked clone of drive scsi0 (ceph:base-9000-disk-0)');
    expect(log.at(-1)).toBe('TASK OK');
    const config = (await client.get('/nodes/pve1/qemu/10000/config')).json.data as Record<string, string>;
    expect(config).toMatchObject({
      name: 'vm-10000',
      description: `for a student\n${MARK}\n`,
      scsi0: 'ceph:base-9000-disk-0/vm-10000-disk-0,discard=on,size=8G',
      ide2: 'ceph:vm-10000-cloudinit,media=cdrom',
      agent: '1',
      digest: expect.stringMatching(/^[0-9a-f]{40}$/),
    });
    expect(config['lock']).toBeUndefined();
    expect(config['template']).toBeUndefined();
    const source = simulator.guest(9000)!.config;
    expect(config['net0']).toMatch(/^virtio=BC:24:11(:[0-9A-F]{2}){3},bridge=vmbr0$/);
    expect(config['net0']).not.toBe(source['net0']);
    expect(config['smbios1']).not.toBe(source['smbios1']);
    const made = context.journal
      .read()
      .find((line) => line.event === 'task-end' && line.op === 'qemu.clone')!;
    expect(made).toMatchObject({
      effect: true,
      vmid: 10_000,
      node: 'pve1',
      actor: 'hatchery@pve!demo',
      params: { pool: 'hatchery-demo', mark: MARK, mode: 'linked' },
    });
    expect(made.incarnation).toBe(simulator.guest(10_000)!.incarnation);
  });

  it('first writes a temporary config with a lock and no mark, then the disks, and joins the pool last', async () => {
    simulator.hold('qemu.clone', 'task');
    simulator.hold('qemu.clone', 'task-end');
    const started = await clone(10_000, { description: MARK });
    await simulator.reached('qemu.clone', 'task');
    const early = (await client.get('/nodes/pve1/qemu/10000/config')).json.data as Record<string, string>;
    expect(early).toMatchObject({ lock: 'clone', description: 'qmclone temporary file\n' });
    expect(Object.keys(early).sort()).toEqual(['description', 'digest', 'lock']);
    const row = (
      (await client.get('/cluster/resources?type=vm')).json.data as Record<string, unknown>[]
    ).find(({ vmid }) => vmid === 10_000);
    expect(row).toMatchObject({ status: 'unknown', lock: 'clone', node: 'pve1' });
    expect(row).not.toHaveProperty('name');
    expect(row).not.toHaveProperty('pool');
    simulator.release('qemu.clone', 'task');
    await simulator.reached('qemu.clone', 'task-end');
    expect(context.world.pools.get('hatchery-demo')!.members.has(10_000)).toBe(true);
    simulator.release('qemu.clone', 'task-end');
    expect((await client.task(started)).exit).toBe('OK');
  });

  it('moves the finished config to the target node when everything is on shared storage', async () => {
    const started = await clone(10_001, { target: 'pve3' });
    expect(String(started.json.data)).toMatch(/^UPID:pve1:/);
    expect((await client.task(started)).exit).toBe('OK');
    expect(simulator.guest(10_001)!.node).toBe('pve3');
    const missing = await client.get('/nodes/pve1/qemu/10001/config');
    expect(missing.status).toBe(500);
    expect(missing.json.message).toBe(
      "Configuration file 'nodes/pve1/qemu-server/10001.conf' does not exist\n",
    );
  });

  it('copies the whole disk of a full clone and tells the progress', async () => {
    const { exit, log } = await client.task(await clone(10_001, { full: 1, storage: 'local-lvm' }));
    expect(exit).toBe('OK');
    expect(log).toContain('transferred 2.0 GiB of 8.0 GiB (25.00%)');
    expect(simulator.guest(10_001)!.config['scsi0']).toBe('local-lvm:vm-10001-disk-0,discard=on,size=8G');
  });

  it('refuses what a clone cannot do before anything starts', async () => {
    expect((await clone(10_001, { storage: 'ceph' })).json.message).toBe(
      "parameter 'storage' not allowed for linked clones\n",
    );
    expect((await clone(10_001, { target: 'pve9' })).reason).toBe("no such cluster node 'pve9'");
    expect((await clone(10_001, { full: 1, storage: 'local-lvm', target: 'pve2' })).reason).toBe(
      "can't clone to non-shared storage 'local-lvm'",
    );
    expect((await clone(10_001, { snapname: 'x1' })).reason).toBe("snapshot 'x1' does not exist");
    expect(simulator.guest(10_001)).toBeUndefined();
  });

  describe('to an id that is taken', () => {
    it('says so at once when the other guest is on the same node', async () => {
      simulator.foreign.create({ vmid: 10_050, node: 'pve1', kind: 'qemu', owner: 'bob' });
      const reply = await clone(10_050);
      expect(reply.status).toBe(500);
      expect(reply.json).toEqual({
        data: null,
        message: 'unable to create VM 10050: config file already exists\n',
      });
    });

    it.each([
      [10_003, 'a machine of another node'],
      [10_007, 'a container'],
    ])('starts a task that fails for %i, %s', async (vmid) => {
      const before = simulator.guest(vmid)!.incarnation;
      const { exit, log } = await client.task(await clone(vmid));
      const text = `close (rename) atomic file '/etc/pve/nodes/pve1/qemu-server/${vmid}.conf' failed: File exists`;
      expect(exit).toBe(text);
      expect(log.at(-1)).toBe(`TASK ERROR: ${text}`);
      expect(log[0]).toBe(`creating a clone of VM 9000 with ID ${vmid}`);
      expect(simulator.guest(vmid)!.incarnation).toBe(before);
    });

    it('lets one of two clones at once win and takes nothing from it', async () => {
      simulator.hold('qemu.clone', 'task-start');
      const [first, second] = await Promise.all([
        clone(10_000, { name: 'first' }),
        clone(10_000, { name: 'second' }),
      ]);
      await simulator.reached('qemu.clone', 'task-start', 2);
      simulator.release('qemu.clone', 'task-start');
      const ends = await Promise.all([client.task(first), client.task(second)]);
      const exits = ends.map(({ exit }) => exit).sort();
      expect(exits).toContain('OK');
      expect(exits.find((exit) => exit !== 'OK')).toMatch(
        /^(can't lock file '\/var\/lock\/qemu-server\/lock-10000\.conf' - got timeout|unable to create VM 10000: config file already exists)$/,
      );
      expect([...context.world.volumes.values()].filter((volume) => volume.vmid === 10_000)).toHaveLength(2);
    });
  });

  it('gives up after 10 s when somebody holds the storage lock, and leaves nothing', async () => {
    context.faults.add({
      id: 'busy',
      match: { op: 'qemu.clone' },
      effect: 'hold-lock',
      when: 'during',
      value: 30_000,
    });
    const { exit } = await client.task(await clone(10_000));
    expect(exit).toBe("clone failed: cfs-lock 'storage-ceph' error: got lock request timeout");
    expect(simulator.guest(10_000)).toBeUndefined();
    expect([...context.world.volumes.values()].filter((volume) => volume.vmid === 10_000)).toHaveLength(0);
    const refused = context.journal.read().find((line) => line.event === 'hold' && line.effect === false)!;
    expect(refused.resource).toBe('storage-ceph');
    expect(refused.waitMs).toBeGreaterThanOrEqual(10_000);
  });

  it('removes everything when its task is stopped', async () => {
    simulator.hold('qemu.clone', 'task');
    const started = await clone(10_000);
    await simulator.reached('qemu.clone', 'task');
    const upid = encodeURIComponent(String(started.json.data));
    expect((await client.delete(`/nodes/pve1/tasks/${upid}`)).status).toBe(200);
    expect((await client.task(started)).exit).toBe('clone failed: interrupted by signal');
    expect(simulator.guest(10_000)).toBeUndefined();
  });
});
