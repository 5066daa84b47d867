import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createContext } from '../../src/simulators/create-context.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';
import { WireClient, type WireReply } from './proxmox-client.js';

type Row = Record<string, string | number | undefined>;

describe('tasks', () => {
  let context: ReturnType<typeof createContext>;
  let simulator: ProxmoxSimulator;
  let client: WireClient;
  let root: WireClient;

  beforeEach(async () => {
    context = createContext({ timeScale: 0.002 });
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
  const pathOf = (started: WireReply): string => {
    const upid = String(started.json.data);
    return `/nodes/${upid.split(':')[1]}/tasks/${encodeURIComponent(upid)}`;
  };
  const list = async (query: string, who = client): Promise<Row[]> =>
    (await who.get(`/nodes/pve1/tasks?${query}`)).json.data as Row[];

  it('show their parts, a log that grows, and the verdict as its last line', async () => {
    simulator.hold('qemu.clone', 'task-start');
    const started = await root.post('/nodes/pve1/qemu/9000/clone', { newid: 500 });
    const path = pathOf(started);
    expect((await client.get(`${path}/log`)).json).toEqual({ data: [{ n: 1, t: 'no content' }], total: 1 });
    const running = (await client.get(`${path}/status`)).json.data as Row;
    expect(running).toMatchObject({
      upid: started.json.data,
      ...{
        node: 'pve1',
        type: 'qmclone',
        id: '9000',
        user: 'root@pam',
        tokenid: 'simulator',
        status: 'running',
      },
    });
    expect(running).not.toHaveProperty('exitstatus');
    expect((await client.get(path)).json.data).toEqual([{ name: 'log' }, { name: 'status' }]);
    simulator.release('qemu.clone', 'task-start');
    const { exit, log } = await root.task(started);
    expect(exit).toBe('OK');
    expect(log[0]).toBe('creating a clone of VM 9000 with ID 500');
    expect(log.at(-1)).toBe('TASK OK');
    const tail = (await client.get(`${path}/log?start=1&limit=1`)).json;
    expect(tail).toEqual({ data: [{ n: 2, t: log[1] }], total: log.length });
  });

  it('refuse what is no UPID and what they do not know', async () => {
    for (const [upid, text] of [
      ['nonsense', 'unable to parse worker upid'],
      ['UPID:pve1:0000FFFF:00000001:65F00000:qmstart:100:root@pam:', 'no such task'],
      ['UPID:pve2:0000FFFF:00000001:65F00000:qmstart:100:root@pam:', 'no such task'],
    ]) {
      const path = `/nodes/pve1/tasks/${encodeURIComponent(upid!)}`;
      for (const reply of [
        await client.get(`${path}/status`),
        await client.get(`${path}/log`),
        await client.delete(path),
      ])
        expect(reply).toMatchObject({ status: 400, json: { errors: { upid: text } } });
    }
  });

  it('of others need Sys.Audit to be read and Sys.Modify to be stopped', async () => {
    simulator.hold('qemu.stop', 'task-start');
    const started = await root.post('/nodes/pve1/qemu/100/status/stop');
    expect((await client.get(`${pathOf(started)}/status`)).status).toBe(200);
    expect(await client.delete(pathOf(started))).toMatchObject({
      status: 403,
      reason: 'Permission check failed (/nodes/pve1, Sys.Modify)',
    });
    simulator.release('qemu.stop', 'task-start');
    expect((await root.task(started)).exit).toBe('OK');
  });

  it('that are stopped clean up and end with what interrupted them', async () => {
    simulator.hold('qemu.clone', 'task');
    const started = await root.post('/nodes/pve1/qemu/9000/clone', { newid: 500 });
    await simulator.reached('qemu.clone', 'task');
    expect((await root.delete(pathOf(started))).status).toBe(200);
    expect((await root.task(started)).exit).toBe('clone failed: interrupted by signal');
    expect(simulator.guest(500)).toBeUndefined();
    simulator.release('qemu.clone', 'task');
  });

  it('are listed by source, guest, type, state and time, running ones only when asked for', async () => {
    await root.task(await root.post('/nodes/pve1/qemu/100/status/stop'));
    await root.task(await root.post('/nodes/pve1/qemu/9000/status/start'));
    simulator.hold('qemu.start', 'task-start');
    const running = await root.post('/nodes/pve1/qemu/100/status/start');
    const kinds = (found: Row[]): unknown[] => found.map(({ type, status }) => `${type} ${status}`);
    const refused = "qmstart you can't start a vm if it's a template";
    expect(kinds(await list(''))).toEqual([refused, 'qmstop OK']);
    expect(kinds(await list('source=active'))).toEqual(['qmstart RUNNING']);
    expect(kinds(await list('source=all'))).toEqual(['qmstart RUNNING', refused, 'qmstop OK']);
    expect(kinds(await list('vmid=100'))).toEqual(['qmstop OK']);
    expect(kinds(await list('typefilter=qmstart'))).toEqual([refused]);
    expect(kinds(await list('errors=1'))).toEqual([refused]);
    expect(kinds(await list('statusfilter=ok'))).toEqual(['qmstop OK']);
    expect(kinds(await list('userfilter=ROOT&limit=1&start=1'))).toEqual(['qmstop OK']);
    expect(await list('since=4000000000')).toEqual([]);
    expect((await client.get('/nodes/pve1/tasks?limit=1')).json.total).toBe(2);
    simulator.release('qemu.start', 'task-start');
    await root.task(running);
  });
});
