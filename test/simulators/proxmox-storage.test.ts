import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createContext } from '../../src/simulators/create-context.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';
import { DossierBench, type Reply } from '../support/dossier-table.js';
import { WireClient } from './proxmox-client.js';

type Row = Record<string, unknown>;

describe('storages', () => {
  let context: ReturnType<typeof createContext>;
  let simulator: ProxmoxSimulator;
  let client: WireClient;
  let root: WireClient;

  beforeEach(async () => {
    context = createContext({
      timeScale: 0.002,
      world: {
        storages: [
          { id: 'ceph', type: 'rbd', shared: true, sizeGiB: 1_000 },
          { id: 'local', type: 'dir', shared: false, sizeGiB: 10, content: ['iso', 'snippets'] },
          { id: 'share', type: 'nfs', shared: true, sizeGiB: 100, nodes: ['pve1', 'pve2'] },
          { id: 'old', type: 'cifs', shared: true, sizeGiB: 100, isDisabled: true },
        ],
        files: [
          { volid: 'local:snippets/user.yaml', node: 'pve2', text: '#cloud-config\n' },
          { volid: 'local:iso/debian.iso', node: 'pve2' },
        ],
      },
    });
    simulator = await startProxmoxSimulator(context);
    client = new WireClient(simulator);
    root = new WireClient(simulator, simulator.rootToken);
  });
  afterEach(async () => {
    client.close();
    root.close();
    await simulator.stop();
    context.close();
  });
  const ids = async (path: string, who = client): Promise<unknown[]> =>
    ((await who.get(path)).json.data as Row[]).map(({ storage, volid }) => volid ?? storage);

  it('are listed by what they hold and who has them', async () => {
    expect(await ids('/nodes/pve1/storage')).toEqual(['ceph', 'local', 'share']);
    expect(await ids('/nodes/pve3/storage')).toEqual(['ceph', 'local']);
    expect(await ids('/nodes/pve1/storage?content=snippets,backup')).toEqual(['local']);
    expect(await ids('/nodes/pve1/storage?target=pve3')).toEqual(['ceph']);
    expect(await ids('/nodes/pve1/storage?target=pve2')).toEqual(['ceph', 'share']);
    expect((await client.get('/nodes/pve1/storage?storage=old')).json.errors).toEqual({
      storage: 'No such storage.',
    });
    expect((await client.get('/nodes/pve1/storage?content=wine')).json.errors).toEqual({
      content: "invalid format - invalid content type 'wine'\n",
    });
    const [ceph] = (await client.get('/nodes/pve1/storage?storage=ceph&format=1')).json.data as Row[];
    expect(ceph).toMatchObject({
      type: 'rbd',
      active: 1,
      enabled: 1,
      shared: 1,
      formats: { default: 'raw' },
    });
  });

  it('show their definition, the path of one to its owner only', async () => {
    const all = (await client.get('/storage')).json.data as Row[];
    expect(all.map(({ storage, type, disable }) => [storage, type, disable])).toEqual([
      ['ceph', 'rbd', undefined],
      ['local', 'dir', undefined],
      ['share', 'nfs', undefined],
      ['old', 'cifs', 1],
    ]);
    expect(await ids('/storage?type=nfs')).toEqual(['share']);
    expect((await client.get('/storage/ceph')).status).toBe(403);
    expect((await root.get('/storage/share')).json.data).toMatchObject({ nodes: 'pve1,pve2', shared: 1 });
    expect((await root.get('/storage/none')).reason).toBe("storage 'none' does not exist");
  });

  it('tell their space, and full ones show it', async () => {
    simulator.conditions.fillStorage('ceph', 5);
    expect((await client.get('/nodes/pve2/storage/ceph/status')).json.data).toMatchObject({
      total: 1_000 * 1024 ** 3,
      avail: 5 * 1024 ** 3,
    });
    expect((await root.get('/nodes/pve3/storage/share/status')).json.errors).toEqual({
      storage: 'No such storage.',
    });
    const index = (await client.get('/nodes/pve3/storage/ceph')).json.data as Row[];
    expect(index).toContainEqual({ subdir: 'content' });
  });

  it('list their content to those who may read it: disks by the rights on their guest', async () => {
    expect(await ids('/nodes/pve2/storage/ceph/content?vmid=9000', root)).toEqual([
      'ceph:base-9000-disk-0',
      'ceph:vm-9000-cloudinit',
    ]);
    expect(await ids('/nodes/pve2/storage/ceph/content')).toEqual([]);
    const containers = (await root.get('/nodes/pve2/storage/ceph/content?content=rootdir')).json
      .data as Row[];
    expect(containers.map(({ vmid, format }) => [vmid, format])).toEqual([
      ...[9100, 9101, 9102, 101, 10_007].map((vmid) => [vmid, 'raw']),
    ]);
    expect(await ids('/nodes/pve2/storage/local/content', root)).toEqual([
      'local:snippets/user.yaml',
      'local:iso/debian.iso',
    ]);
    expect(await ids('/nodes/pve2/storage/local/content')).toEqual(['local:iso/debian.iso']);
    expect(await ids('/nodes/pve1/storage/local/content', root)).toEqual([]);
    expect((await root.get('/nodes/pve3/storage/share/content')).reason).toBe(
      "storage 'share' is not available on node 'pve3'",
    );
    expect((await root.get('/nodes/pve3/storage/old/content')).reason).toBe("storage 'old' is disabled");
  });

  it('read and delete one volume, whatever slashes its name has', async () => {
    await root.task(await root.post('/nodes/pve1/qemu/9000/clone', { newid: 500 }));
    const linked = 'ceph:base-9000-disk-0/vm-500-disk-0';
    const at = (volid: string): string => `/nodes/pve1/storage/ceph/content/${volid}`;
    expect((await root.get(at(linked))).json.data).toMatchObject({
      size: 8 * 1024 ** 3,
      format: 'raw',
      path: 'rbd:ceph/vm-500-disk-0:conf=/etc/pve/ceph.conf',
    });
    expect((await client.get(at(linked))).reason).toBe('Permission check failed (/vms/500, VM.Config.Disk)');
    expect((await root.get(at('ceph:vm-777-disk-0'))).reason).toBe(
      "volume_size_info on 'ceph:vm-777-disk-0' failed - no format",
    );
    expect((await root.get(at('local:vm-777-disk-0'))).json.errors).toEqual({
      volume: 'storage ID mismatch (local != ceph)\n',
    });
    expect((await client.delete(at(linked))).status).toBe(403);
    const used = await root.task(await root.delete(at('ceph:base-9000-disk-0')));
    expect(used.exit).toBe("base volume 'base-9000-disk-0' is still in use by linked clones");
    const deleted = await root.delete(at(linked));
    expect(deleted.json.data).toMatch(/:imgdel:500@ceph:root@pam!simulator:$/);
    expect(await root.task(deleted)).toEqual({ exit: 'OK', log: [`Removed volume '${linked}'`, 'TASK OK'] });
    expect(simulator.guest(500)).toBeDefined();
    expect((await root.delete(`${at('vm-500-cloudinit')}?delay=30`)).json.data).toBeNull();
  });
});

describe('an upload', () => {
  const boundary = 'X-simulated-boundary';
  const body = (fields: Record<string, string>, name: string, text: string): string =>
    [
      ...Object.entries(fields).map(
        ([key, value]) =>
          `--${boundary}\r\nContent-Disposition: form-data; name="${key}"\r\n\r\n${value}\r\n`,
      ),
      `--${boundary}\r\nContent-Disposition: form-data; name="filename"; filename="${name}"\r\n\r\n${text}\r\n`,
      `--${boundary}--\r\n`,
    ].join('');

  it('brings archives to a node, larger ones than any other body, and nothing that a node would run', async () => {
    const bench = await DossierBench.start({});
    try {
      const upload = (fields: Record<string, string>, name: string, text = 'archive'): Promise<Reply> =>
        bench.send({
          call: 'POST /nodes/pve2/storage/local/upload',
          body: body(fields, name, text),
          headers: { 'content-type': `multipart/form-data; boundary=${boundary}` },
        });
      const name = 'debian-13-standard_13.1-2_amd64.tar.zst';
      const sent = await upload({ content: 'vztmpl' }, name, 'x'.repeat(600_000));
      expect((await bench.follow(String(sent.json.data))).exit).toBe('OK');
      expect(await bench.data('GET /nodes/pve2/storage/local/content?content=vztmpl')).toContainEqual({
        volid: `local:vztmpl/${name}`,
        content: 'vztmpl',
        format: 'tzst',
        size: 600_000,
      });
      expect(await bench.data('GET /nodes/pve1/storage/local/content?content=vztmpl')).not.toContainEqual(
        expect.objectContaining({ size: 600_000 }),
      );
      const snippet = await upload({ content: 'snippets' }, 'hook.sh');
      expect(snippet.json.errors).toEqual({
        content: "value 'snippets' does not have a value in the enumeration 'iso, vztmpl, import'",
      });
      expect((await upload({ content: 'iso' }, 'hook.sh')).json.errors).toEqual({
        filename: 'wrong file extension',
      });
      expect((await upload({ content: 'import' }, 'a.qcow2')).reason).toBe(
        "storage 'local' does not support 'import' content",
      );
      const wrong = { content: 'iso', 'checksum-algorithm': 'sha256', checksum: '00' };
      const broken = await upload(wrong, 'a.iso');
      expect((await bench.follow(String(broken.json.data))).exit).toBe('checksum mismatch');
    } finally {
      await bench.stop();
    }
  });
});
