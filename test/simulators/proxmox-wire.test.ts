import { get } from 'node:https';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addToken } from '../../src/simulators/build-access.js';
import { createContext } from '../../src/simulators/create-context.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';
import { WireClient } from './proxmox-client.js';

describe('the Proxmox wire', () => {
  let context: ReturnType<typeof createContext>;
  let simulator: ProxmoxSimulator;
  let client: WireClient;
  let root: WireClient;

  beforeAll(async () => {
    context = createContext({ timeScale: 0.002 });
    simulator = await startProxmoxSimulator(context);
    client = new WireClient(simulator);
    root = new WireClient(simulator, simulator.rootToken);
  });
  afterAll(async () => {
    client.close();
    root.close();
    await simulator.stop();
    context.close();
  });

  describe('envelope and errors', () => {
    it('wraps a result in data', async () => {
      const reply = await client.get('/version');
      expect(reply.status).toBe(200);
      expect(reply.json.data).toMatchObject({ release: '9.1' });
    });

    it('gives errors the text as reason phrase and message, and closes the connection', async () => {
      const reply = await client.get('/nodes/pve1/qemu/555/config');
      expect(reply).toMatchObject({
        status: 500,
        reason: "Configuration file 'nodes/pve1/qemu-server/555.conf' does not exist",
        json: {
          data: null,
          message: "Configuration file 'nodes/pve1/qemu-server/555.conf' does not exist\n",
        },
        connection: 'close',
      });
    });

    it('reports every bad parameter together', async () => {
      const reply = await root.post('/nodes/pve1/qemu/9000/clone', {
        newid: 5,
        full: 'true',
        name: 'a b',
        colour: 'red',
      });
      expect(reply.status).toBe(400);
      expect(reply.reason).toBe('Parameter verification failed.');
      expect(reply.json).toEqual({
        data: null,
        message: 'Parameter verification failed.\n',
        errors: {
          newid: 'invalid format - value does not look like a valid VM ID\n',
          full: "type check ('boolean') failed - got 'true'",
          name: 'invalid format - value does not look like a valid DNS name\n',
          colour: 'property is not defined in schema and the schema does not allow additional properties',
        },
      });
      const missing = await root.post('/nodes/pve1/qemu/9000/clone', {});
      expect(missing.json.errors).toEqual({ newid: 'property is missing and it is not optional' });
    });

    it('answers 501 for an unknown call, and raw for a body where none may be', async () => {
      const unknown = await client.get('/cluster/nothing');
      expect(unknown).toMatchObject({
        status: 501,
        json: { message: "Method 'GET /cluster/nothing' not implemented\n" },
      });
      const body = await client.send('DELETE', '/nodes/pve1/qemu/100', 'purge=1');
      expect(body).toMatchObject({ status: 501, text: "Unexpected content for method 'DELETE'", json: {} });
    });

    it('splits forms at semicolons too', async () => {
      const reply = await client.send('PUT', '/nodes/pve1/qemu/9000/config', 'description=a;tags=b');
      expect(reply.status).toBe(403);
      const [line] = context.journal.read().filter((one) => one.op === 'qemu.config.put');
      expect(line!.params).toMatchObject({ description: 'a', tags: 'b' });
    });

    it('knows an unknown node by its text', async () => {
      const reply = await client.get('/nodes/pve9/qemu');
      expect(reply.reason).toBe(
        "hostname lookup 'pve9' failed - failed to get address info for: pve9: Name or service not known",
      );
    });
  });

  describe('sign-in and rights', () => {
    it('refuses without a token and with a wrong one: 401, empty body', async () => {
      const wrong = new WireClient(simulator, { id: simulator.token.id, secret: 'no' });
      expect(await wrong.get('/version')).toMatchObject({
        status: 401,
        reason: 'Authentication failed!',
        text: '',
      });
      const none = await client.send('GET', '/version', undefined, { authorization: '' });
      expect(none.status).toBe(401);
      wrong.close();
    });

    it('is a certificate that nobody accepts without its authority', async () => {
      const plain = new Promise((resolve, reject) =>
        get(`${simulator.endpoints[0]}/api2/json/version`, resolve).on('error', reject),
      );
      await expect(plain).rejects.toThrow(/self-signed|unable to (get|verify)/);
    });

    it('lets the deployment write only through its pool', async () => {
      expect((await client.put('/nodes/pve1/qemu/100/config', { cores: 4 })).json.message).toMatch(
        /^Permission check failed \(\/vms\/100, VM\.Config\.Disk\|VM\.Config\.CDROM\|/,
      );
      expect((await client.delete('/nodes/pve1/qemu/100')).reason).toBe(
        'Permission check failed (/vms/100, VM.Allocate)',
      );
      expect((await client.post('/nodes/pve1/qemu/100/status/stop')).reason).toBe(
        'Permission check failed (/vms/100, VM.PowerMgmt)',
      );
      expect(
        (await client.post('/nodes/pve1/qemu/100/clone', { newid: 10_900, pool: 'hatchery-demo' })).reason,
      ).toBe('Permission check failed (/vms/100, VM.Clone)');
      expect((await client.get('/nodes/pve1/qemu/100/config')).status).toBe(200);
      expect(simulator.guest(100)!.status).toBe('running');
    });

    it('tests the declared permission before the parameters', async () => {
      expect((await client.put('/nodes/pve1/qemu/100/config', { cores: 'many' })).status).toBe(403);
    });

    it('asks a clone for its pool', async () => {
      const clone = (params: Record<string, string | number>) =>
        client.post('/nodes/pve1/qemu/9000/clone', { newid: 10_900, ...params });
      expect((await clone({})).reason).toBe('Permission check failed');
      expect((await clone({ pool: 'prod' })).reason).toBe('Permission check failed');
      expect(
        (await root.post('/nodes/pve1/qemu/9000/clone', { newid: 10_900, pool: 'nowhere' })).reason,
      ).toBe("Permission check failed (pool 'nowhere' does not exist)");
    });

    it('says which rights a token really has', async () => {
      const rights = (await client.get('/access/permissions')).json.data as Record<
        string,
        Record<string, number>
      >;
      expect(rights['/vms']).toEqual({ 'VM.Audit': 1 });
      expect(rights['/pool/hatchery-demo']).toMatchObject({
        'VM.Allocate': 1,
        'Pool.Allocate': 1,
        'VM.Config.Network': 1,
      });
      expect(rights['/vms/9000']).toEqual({ 'VM.Audit': 1, 'VM.Clone': 1 });
      expect(rights['/vms/100']).toEqual({ 'VM.Audit': 1, 'Pool.Audit': 0 });
      const one = (await client.get('/access/permissions?path=/storage/ceph')).json.data;
      expect(one).toEqual({ '/storage/ceph': { 'Datastore.AllocateSpace': 1, 'Datastore.Audit': 1 } });
    });
  });

  describe('the inventory', () => {
    it('shows guests of both kinds, nodes and storages', async () => {
      const rows = (await client.get('/cluster/resources')).json.data as Record<string, unknown>[];
      expect(rows).toContainEqual(
        expect.objectContaining({ id: 'qemu/9000', name: 'debian-12-xfce', template: 1, node: 'pve1' }),
      );
      expect(rows).toContainEqual(
        expect.objectContaining({ id: 'lxc/10007', name: 'wiki', status: 'stopped' }),
      );
      expect(rows).toContainEqual(expect.objectContaining({ id: 'node/pve2', status: 'online' }));
      expect(rows.filter(({ storage }) => storage === 'ceph')).toHaveLength(3);
    });

    it('hides guests without VM.Audit', async () => {
      addToken(context.world, { id: 'eve@pve!blind', secret: 's' });
      const eve = new WireClient(simulator, { id: 'eve@pve!blind', secret: 's' });
      expect((await eve.get('/cluster/resources?type=vm')).json.data).toEqual([]);
      expect((await eve.get('/cluster/status')).reason).toBe('Permission check failed (/, Sys.Audit)');
      eve.close();
    });

    it('gives the next id without reserving it', async () => {
      expect((await client.get('/cluster/nextid')).json.data).toBe('102');
      expect((await client.get('/cluster/nextid')).json.data).toBe('102');
      const taken = await client.get('/cluster/nextid?vmid=10007');
      expect(taken).toMatchObject({ status: 400, json: { errors: { vmid: 'VM 10007 already exists' } } });
      expect((await client.get('/cluster/nextid?vmid=10008')).json.data).toBe('10008');
    });

    it('serves one node through another', async () => {
      const other = client.at(2);
      expect(((await other.get('/nodes/pve1/qemu')).json.data as unknown[]).length).toBe(2);
      const status = (await other.get('/cluster/status')).json.data as Record<string, unknown>[];
      expect(status.find(({ local }) => local === 1)).toMatchObject({ name: 'pve3' });
      other.close();
    });

    it('lists storages with their space', async () => {
      const rows = (await client.get('/nodes/pve1/storage')).json.data as Record<string, number | string>[];
      expect(rows.find(({ storage }) => storage === 'ceph')).toMatchObject({
        type: 'rbd',
        shared: 1,
        active: 1,
      });
      const content = (await root.get('/nodes/pve1/storage/ceph/content?vmid=9000')).json.data;
      expect(content).toEqual([
        expect.objectContaining({ volid: 'ceph:base-9000-disk-0', size: 8 * 1024 ** 3 }),
        expect.objectContaining({ volid: 'ceph:vm-9000-cloudinit' }),
      ]);
    });
  });

  describe('faults', () => {
    it('make the same answer before and after the effect', async () => {
      context.faults.add({ id: 'lost', match: { op: 'pools.put', nth: 1 }, when: 'after', effect: 'reset' });
      await expect(root.put('/pools', { poolid: 'prod', vms: 104 })).rejects.toThrow(
        /ECONNRESET|socket hang up/,
      );
      expect(context.world.pools.get('prod')!.members.has(104)).toBe(true);
      const line = context.journal
        .read()
        .findLast((one) => one.op === 'pools.put' && one.event === 'request')!;
      expect(line).toMatchObject({ effect: true, answered: false, fault: 'lost' });
      const again = await root.put('/pools', { poolid: 'prod', vms: 104 });
      expect(again.reason).toBe('update pools failed: VM 104 is already a pool member');
    });

    it('answer a pseudo code with an empty body', async () => {
      context.faults.add({
        id: 'gone',
        match: { op: 'version', nth: 1 },
        effect: 'status',
        value: { status: 595, message: 'No route to host' },
      });
      expect(await client.get('/version')).toMatchObject({
        status: 595,
        reason: 'No route to host',
        text: '',
      });
      expect((await client.get('/version')).status).toBe(200);
    });
  });
});
