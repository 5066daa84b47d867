import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createContext } from '../../src/simulators/create-context.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';
import { WireClient, type WireReply } from './proxmox-client.js';

const KEY = `ssh-ed25519 ${Buffer.concat([Buffer.from([0, 0, 0, 11]), Buffer.from('ssh-ed25519'), Buffer.from([0, 0, 0, 32]), Buffer.alloc(32, 7)]).toString('base64')} a@b`;
const MAC = 'BC:24:11:00:AA:01';
const GUEST = '/nodes/pve1/qemu/10000';

describe('a guest of the simulated cluster', () => {
  let context: ReturnType<typeof createContext>;
  let simulator: ProxmoxSimulator;
  let client: WireClient;

  beforeEach(async () => {
    context = createContext({ timeScale: 0.001 });
    simulator = await startProxmoxSimulator(context);
    client = new WireClient(simulator);
    const cloned = await client.task(
      await client.post('/nodes/pve1/qemu/9000/clone', {
        newid: 10_000,
        pool: 'hatchery-demo',
        name: 'vm-x',
      }),
    );
    expect(cloned.exit).toBe('OK');
  });
  afterEach(async () => {
    client.close();
    await simulator.stop();
    context.close();
  });

  const config = async (): Promise<Record<string, string | number>> =>
    (await client.get(`${GUEST}/config`)).json.data as Record<string, string | number>;
  const start = async (): Promise<string> =>
    (await client.task(await client.post(`${GUEST}/status/start`))).exit;
  const addresses = async (): Promise<WireReply> => client.get(`${GUEST}/agent/network-get-interfaces`);
  const agentAnswer = async (): Promise<WireReply> => {
    for (;;) {
      const reply = await addresses();
      if (reply.reason !== 'QEMU guest agent is not running') return reply;
    }
  };

  describe('its config', () => {
    it('is written only with the digest that was read', async () => {
      const { digest } = await config();
      expect((await client.put(`${GUEST}/config`, { cores: 4, memory: 4096, digest: digest! })).json).toEqual(
        { data: null },
      );
      const late = await client.put(`${GUEST}/config`, { cores: 8, digest: digest! });
      expect(late).toMatchObject({ status: 500, reason: 'checksum mismatch (file change by other user?)' });
      expect(await config()).toMatchObject({ cores: 4, memory: '4096' });
      const writes = context.journal.read().filter((line) => line.op === 'qemu.config.put');
      expect(writes.map((line) => line.effect)).toEqual([true, false]);
      expect(writes[0]).toMatchObject({
        vmid: 10_000,
        digestBefore: digest,
        incarnation: simulator.guest(10_000)!.incarnation,
      });
    });

    it('tells a write that changes nothing from one that does', async () => {
      await client.put(`${GUEST}/config`, { cores: 2 });
      expect(context.journal.read().find((line) => line.op === 'qemu.config.put')).toMatchObject({
        effect: false,
        status: 200,
      });
    });

    it('takes SSH keys only percent-encoded once more than the form', async () => {
      const raw = await client.put(`${GUEST}/config`, { sshkeys: KEY });
      expect(raw.status).toBe(400);
      expect(raw.json.errors!['sshkeys']).toMatch(/^invalid format - invalid urlencoded string: /);
      expect(
        (await client.put(`${GUEST}/config`, { sshkeys: encodeURIComponent('ssh-ed25519 AAAA') })).reason,
      ).toBe('SSH public key validation error');
      expect((await client.put(`${GUEST}/config`, { sshkeys: encodeURIComponent(KEY) })).status).toBe(200);
      expect((await config())['sshkeys']).toBe(encodeURIComponent(KEY));
    });

    it('never shows a password, nor does the journal', async () => {
      await client.put(`${GUEST}/config`, { ciuser: 'ada', cipassword: 'hunter2' });
      expect(await config()).toMatchObject({ ciuser: 'ada', cipassword: '**********' });
      expect(JSON.stringify(context.journal.read())).not.toContain('hunter2');
    });

    it('refuses empty writes, root keys, broken MACs and locked guests', async () => {
      expect((await client.put(`${GUEST}/config`)).reason).toBe('no options specified');
      expect((await client.put(`${GUEST}/config`, { args: '-x' })).reason).toBe(
        "only root can set 'args' config",
      );
      expect(
        (await client.put(`${GUEST}/config`, { net0: 'virtio=01:00:00:00:00:01,bridge=vmbr0' })).json.errors![
          'net0'
        ],
      ).toContain('does not look like a valid unicast MAC address');
      simulator.foreign.edit(10_000, { lock: 'backup' });
      expect((await client.put(`${GUEST}/config`, { cores: 1 })).reason).toBe('VM is locked (backup)');
    });

    it('keeps what cannot be changed on a running guest for its next start', async () => {
      expect(await start()).toBe('OK');
      await client.put(`${GUEST}/config`, { cores: 8 });
      expect(await config()).toMatchObject({ cores: 8 });
      expect((await client.get(`${GUEST}/config?current=1`)).json.data).toMatchObject({ cores: 2 });
    });
  });

  describe('its disk', () => {
    const resize = async (size: string, disk = 'scsi0'): Promise<string> =>
      (await client.task(await client.put(`${GUEST}/resize`, { disk, size }))).exit;

    it('grows to an absolute size or by some, and never shrinks', async () => {
      expect(await resize('20G')).toBe('OK');
      expect(await resize('20G')).toBe('OK');
      expect(await resize('+2G')).toBe('OK');
      expect((await config())['scsi0']).toContain('size=22G');
      expect(await resize('10G')).toBe('shrinking disks is not supported');
      expect(await resize('10G', 'scsi5')).toBe("disk 'scsi5' does not exist");
      const effects = context.journal
        .read()
        .filter((line) => line.op === 'qemu.resize' && line.event === 'task-end');
      expect(effects.map((line) => line.effect)).toEqual([true, false, true, false, false]);
    });
  });

  describe('its agent', () => {
    it('is silent while the guest boots, then reports the address that DHCP gave', async () => {
      context.world.dhcp.allow.set(MAC.toLowerCase(), { description: 'test' });
      await client.put(`${GUEST}/config`, { net0: `virtio=${MAC},bridge=vmbr0` });
      expect((await addresses()).reason).toBe('VM 10000 is not running');
      expect(await start()).toBe('OK');
      const reply = await agentAnswer();
      const { result } = reply.json.data as {
        result: { name: string; 'hardware-address': string; 'ip-addresses': { 'ip-address': string }[] }[];
      };
      const card = result.find(({ name }) => name === 'eth0')!;
      expect(card['hardware-address']).toBe(MAC.toLowerCase());
      expect(card['ip-addresses'].map((one) => one['ip-address'])).toContain(
        simulator.guest(10_000)!.address,
      );
      const started = context.journal
        .read()
        .find((line) => line.op === 'qemu.start' && line.event === 'task-end')!;
      expect(started.params).toMatchObject({
        mac: MAC.toLowerCase(),
        allowed: true,
        address: simulator.guest(10_000)!.address,
      });
    });

    it('has no address when the MAC was allowed only after the start', async () => {
      await client.put(`${GUEST}/config`, { net0: `virtio=${MAC},bridge=vmbr0` });
      expect(await start()).toBe('OK');
      context.world.dhcp.allow.set(MAC.toLowerCase(), { description: 'too late' });
      const reply = await agentAnswer();
      expect(reply.text).not.toContain('10.20.');
      expect(reply.text).toContain('fe80::be24:11ff:fe00:aa01');
    });

    it('does not exist without being configured', async () => {
      await client.put(`${GUEST}/config`, { delete: 'agent' });
      expect((await addresses()).reason).toBe('No QEMU guest agent configured');
    });
  });

  describe('its life', () => {
    it('starts once', async () => {
      expect(await start()).toBe('OK');
      expect(await start()).toBe('VM 10000 already running');
    });

    it('is never started as a template', async () => {
      const root = new WireClient(simulator, simulator.rootToken);
      expect((await root.task(await root.post('/nodes/pve1/qemu/9000/status/start'))).exit).toBe(
        "you can't start a vm if it's a template",
      );
      root.close();
    });

    it('is destroyed only when it is stopped, disks first, and its id is free again', async () => {
      await start();
      expect((await client.delete(`${GUEST}?purge=1`)).reason).toBe('VM 10000 is running - destroy failed');
      expect((await client.task(await client.post(`${GUEST}/status/stop`))).exit).toBe('OK');
      expect((await client.task(await client.post(`${GUEST}/status/stop`))).exit).toBe('OK');
      const { incarnation } = simulator.guest(10_000)!;
      expect((await client.task(await client.delete(`${GUEST}?purge=1`))).exit).toBe('OK');
      expect(simulator.guest(10_000)).toBeUndefined();
      expect([...context.world.volumes.values()].filter(({ vmid }) => vmid === 10_000)).toEqual([]);
      expect(context.world.pools.get('hatchery-demo')!.members.size).toBe(0);
      const end = context.journal
        .read()
        .find((line) => line.op === 'qemu.destroy' && line.event === 'task-end')!;
      expect(end).toMatchObject({ effect: true, vmid: 10_000, incarnation });
    });

    it('leaves orphans with a warning when a disk cannot be removed', async () => {
      context.faults.add({
        id: 'busy',
        match: { op: 'qemu.destroy' },
        when: 'during',
        effect: 'hold-lock',
        value: 60_000,
      });
      expect((await client.task(await client.delete(GUEST))).exit).toMatch(/^WARNINGS: [12]$/);
      expect(simulator.guest(10_000)).toBeUndefined();
      const end = context.journal
        .read()
        .find((line) => line.op === 'qemu.destroy' && line.event === 'task-end')!;
      expect(end.params!['left']).toContain('ceph:vm-10000-cloudinit');
    });

    it('keeps a template that others share blocks with', async () => {
      const root = new WireClient(simulator, simulator.rootToken);
      expect((await root.task(await root.delete('/nodes/pve1/qemu/9000'))).exit).toBe(
        "base volume 'ceph:base-9000-disk-0' is still in use by linked cloned",
      );
      root.close();
    });

    it('is another incarnation when its id is used again, and the lists first show its predecessor', async () => {
      await client.task(await client.delete(GUEST));
      const again = await client.task(
        await client.post('/nodes/pve1/qemu/9000/clone', {
          newid: 10_000,
          pool: 'hatchery-demo',
          name: 'vm-y',
        }),
      );
      expect(again.exit).toBe('OK');
      const made = context.journal
        .read()
        .filter((line) => line.op === 'qemu.clone' && line.event === 'task-end');
      expect(new Set(made.map((line) => line.incarnation)).size).toBe(2);
    });
  });

  describe('its tasks', () => {
    it('are listed by node with their verdict, and running ones only when asked', async () => {
      simulator.hold('qemu.start', 'task-start');
      const started = await client.post(`${GUEST}/status/start`);
      await simulator.reached('qemu.start', 'task-start');
      const list = async (query: string) =>
        (await client.get(`/nodes/pve1/tasks?${query}`)).json.data as Record<string, unknown>[];
      expect(await list('typefilter=qmstart')).toEqual([]);
      expect(await list('typefilter=qmstart&source=all')).toEqual([
        expect.objectContaining({
          upid: started.json.data,
          status: 'RUNNING',
          user: 'hatchery@pve',
          tokenid: 'demo',
          id: '10000',
        }),
      ]);
      simulator.release('qemu.start', 'task-start');
      await client.task(started);
      expect(await list('vmid=10000')).toEqual([expect.objectContaining({ status: 'OK', type: 'qmstart' })]);
      expect(await list('vmid=9000')).toEqual([expect.objectContaining({ type: 'qmclone', status: 'OK' })]);
      expect(await list('since=99999999999&source=all')).toEqual([]);
    });

    it('refuse what is no UPID and what nobody knows', async () => {
      expect((await client.get('/nodes/pve1/tasks/nonsense/status')).json.errors).toEqual({
        upid: 'unable to parse worker upid',
      });
      const unknown = 'UPID:pve1:00001234:00ABCDEF:65000000:qmstart:100:root@pam:';
      expect((await client.get(`/nodes/pve1/tasks/${unknown}/log`)).json.errors).toEqual({
        upid: 'no such task',
      });
    });

    it('page their log', async () => {
      const started = await client.post(`${GUEST}/status/start`);
      const { log } = await client.task(started);
      const page = await client.get(
        `/nodes/pve1/tasks/${encodeURIComponent(String(started.json.data))}/log?start=1&limit=1`,
      );
      expect(page.json).toEqual({ data: [{ n: 2, t: log[1] }], total: log.length });
    });

    it('may end without a verdict', async () => {
      context.faults.add({
        id: 'killed',
        match: { op: 'qemu.start' },
        when: 'after',
        effect: 'task-error',
        value: 'unexpected status',
      });
      const { exit, log } = await client.task(await client.post(`${GUEST}/status/start`));
      expect(exit).toBe('unexpected status');
      expect(log.join('\n')).not.toContain('TASK');
      expect(simulator.guest(10_000)!.status).toBe('running');
    });
  });
});
