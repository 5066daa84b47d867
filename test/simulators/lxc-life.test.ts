import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { QemuBench } from './qemu-bench.js';

const ARCHIVE = 'local:vztmpl/debian-12-standard_12.12-1_amd64.tar.zst';
const MAC = '02:00:00:00:00:0A';

describe('a container', () => {
  let bench: QemuBench;
  beforeAll(async () => {
    bench = await QemuBench.start({});
    bench.world.dhcp.allow.set(MAC.toLowerCase(), { description: 'ada' });
  });
  afterAll(() => bench.stop());

  const of = (vmid: number, rest = ''): string => `/nodes/pve1/lxc/${vmid}${rest}`;
  const config = (vmid: number): Promise<Record<string, unknown>> => bench.read(`GET ${of(vmid, '/config')}`);
  const make = async (vmid: number, more: Record<string, string | number> = {}): Promise<void> => {
    const form = { vmid, ostemplate: ARCHIVE, rootfs: 'ceph:8', ...more };
    expect(await bench.exit('POST /nodes/pve1/lxc', form)).toBe('OK');
  };

  it('gets the address of its MAC when it starts, and tells it without an agent', async () => {
    await make(110, { net0: `name=eth0,bridge=vmbr0,hwaddr=${MAC},ip=dhcp` });
    expect(await bench.read(`GET ${of(110, '/interfaces')}`)).toBeNull();
    expect(await bench.exit(`POST ${of(110, '/status/start')}`)).toBe('OK');
    expect(await bench.refusal(`POST ${of(110, '/status/start')}`)).toBe('CT 110 already running');
    const address = bench.world.dhcp.leases.get(MAC.toLowerCase())!;
    const own = async (): Promise<Record<string, unknown>> =>
      (await bench.read<Record<string, unknown>[]>(`GET ${of(110, '/interfaces')}`)).find(
        ({ name }) => name === 'eth0',
      )!;
    await expect.poll(own).toHaveProperty('inet');
    expect(await own()).toEqual({
      name: 'eth0',
      hwaddr: MAC.toLowerCase(),
      'hardware-address': MAC.toLowerCase(),
      inet: `${address}/16`,
      inet6: 'fe80::0:ff:fe00:a/64',
      'ip-addresses': [
        { 'ip-address-type': 'inet', 'ip-address': address, prefix: 16 },
        { 'ip-address-type': 'inet6', 'ip-address': 'fe80::0:ff:fe00:a', prefix: 64 },
      ],
    });
    const start = bench.bench.context.journal
      .read()
      .find(({ op, event }) => op === 'lxc.start' && event === 'task-end');
    expect(start).toMatchObject({
      effect: true,
      vmid: 110,
      params: { mac: MAC.toLowerCase(), address, allowed: true },
    });
  });

  it('is written at once while it is off, and partly at the next start while it runs', async () => {
    await make(111);
    const { digest } = await config(111);
    await bench.read(`PUT ${of(111, '/config')}`, { memory: 1024, swap: 0, digest: String(digest) });
    expect(await config(111)).toMatchObject({ memory: 1024, swap: 0 });
    expect(await bench.refusal(`PUT ${of(111, '/config')}`, { memory: 2048, digest: String(digest) })).toBe(
      'detected modified configuration - file changed by other user? Try again.',
    );
    await bench.exit(`POST ${of(111, '/status/start')}`);
    await bench.read(`PUT ${of(111, '/config')}`, { cores: 2, nameserver: '10.0.0.1' });
    expect(await bench.read(`GET ${of(111, '/config')}?current=1`)).toMatchObject({ cores: 2 });
    expect(await bench.read(`GET ${of(111, '/pending')}`)).toContainEqual({
      key: 'nameserver',
      pending: '10.0.0.1',
    });
    await bench.exit(`POST ${of(111, '/status/reboot')}`);
    expect(await bench.read(`GET ${of(111, '/config')}?current=1`)).toMatchObject({ nameserver: '10.0.0.1' });
  });

  it('keeps its lxc lines through every write of the API, which cannot set any', async () => {
    await make(112);
    bench.world.guests.get(112)!.rawLines = [['lxc.idmap', 'u 0 100000 65536']];
    await bench.read(`PUT ${of(112, '/config')}`, { cores: 3 });
    expect(await config(112)).toMatchObject({ cores: 3, lxc: [['lxc.idmap', 'u 0 100000 65536']] });
    expect(await bench.refusal(`PUT ${of(112, '/config')}`, { 'lxc.idmap': 'u 0 0 65536' })).toContain(
      'property is not defined in schema',
    );
  });

  it('keeps what may not be changed', async () => {
    await make(113);
    const put = (form: Record<string, string | number>): Promise<string> =>
      bench.refusal(`PUT ${of(113, '/config')}`, form);
    expect(await put({ unprivileged: 0 })).toBe("unable to modify read-only option: 'unprivileged'");
    expect(await put({ delete: 'rootfs' })).toBe("unable to delete required option 'rootfs'");
    expect(await put({ revert: 'nosuch' })).toBe(`{"revert":"unknown option 'nosuch'"}`);
    bench.world.guests.get(113)!.config['lock'] = 'backup';
    expect(await put({ cores: 2 })).toBe('CT is locked (backup)');
    expect(await bench.refusal(`DELETE ${of(113)}`)).toBe('CT is locked (backup)');
    expect(await bench.exit(`POST ${of(113, '/status/start')}`)).toBe('CT is locked (backup)');
  });

  it('gets and loses mount points; what it loses stays as unused until it is deleted too', async () => {
    await make(114);
    await bench.read(`PUT ${of(114, '/config')}`, { mp0: 'local-lvm:2,mp=/srv' });
    expect(await config(114)).toMatchObject({ mp0: 'local-lvm:vm-114-disk-0,mp=/srv,size=2G' });
    await bench.read(`PUT ${of(114, '/config')}`, { delete: 'mp0' });
    expect(await config(114)).toMatchObject({ unused0: 'local-lvm:vm-114-disk-0' });
    await bench.read(`PUT ${of(114, '/config')}`, { delete: 'unused0' });
    expect([...bench.world.volumes.keys()]).not.toContain('pve1/local-lvm:vm-114-disk-0');
  });

  it('stops, by asking or hard, and says so when it is off', async () => {
    await make(115);
    expect(await bench.refusal(`POST ${of(115, '/status/stop')}`)).toBe('CT 115 not running');
    await bench.exit(`POST ${of(115, '/status/start')}`);
    expect(await bench.exit(`POST ${of(115, '/status/shutdown')}`, { timeout: 0 })).toBe(
      "command 'lxc-stop -n 115 --nokill --timeout 0' failed: exit code 1",
    );
    expect(await bench.exit(`POST ${of(115, '/status/shutdown')}`, { timeout: 0, forceStop: 1 })).toBe('OK');
    expect(await bench.read(`GET ${of(115, '/status/current')}`)).toMatchObject({ status: 'stopped' });
  });

  it('goes with its volumes, its place in the pool last', async () => {
    await make(116, { pool: 'hatchery-demo' });
    await bench.exit(`POST ${of(116, '/status/start')}`);
    expect(await bench.refusal(`DELETE ${of(116)}`)).toBe('unable to destroy CT 116 - container is running');
    await bench.exit(`POST ${of(116, '/status/stop')}`);
    expect(await bench.exit(`DELETE ${of(116)}?purge=1`)).toBe('OK');
    expect(bench.world.guests.has(116)).toBe(false);
    expect([...bench.world.volumes.values()].some(({ vmid }) => vmid === 116)).toBe(false);
    expect(bench.world.pools.get('hatchery-demo')!.members.has(116)).toBe(false);
    const end = bench.bench.context.journal
      .read()
      .find(({ op, event }) => op === 'lxc.destroy' && event === 'task-end');
    expect(end).toMatchObject({ effect: true, vmid: 116, params: { freed: ['ceph:vm-116-disk-0'] } });
  });
});
