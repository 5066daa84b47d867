import { expect } from 'vitest';
import { replayDossier, type DossierBench } from '../../support/dossier-table.js';

const UPID = /^UPID:pve1:[0-9A-F]{8}:[0-9A-F]{8,9}:[0-9A-F]{8}:/;
const clone = (newid = 10_500) => ({ call: 'POST /nodes/pve1/qemu/9000/clone', form: { newid } });
const taskPath = (upid: string, what = '', node = 'pve1') =>
  `/nodes/${node}/tasks/${encodeURIComponent(upid)}${what}`;
/** A clone that stands still at its start; its UPID. */
async function runningClone({ simulator, data }: DossierBench, newid = 10_500): Promise<string> {
  simulator.hold('qemu.clone', 'task');
  const upid = await data<string>(clone(newid));
  await simulator.reached('qemu.clone', 'task');
  return upid;
}
const release = ({ simulator }: DossierBench) => simulator.release('qemu.clone', 'task');
const STRANGER = { tokens: [{ id: 'eve@pve!tok', acl: [{ path: '/vms', privileges: ['VM.Audit'] }] }] };

replayDossier('section 5: tasks', [
  {
    line: 137,
    says: 'the form of a UPID',
    send: clone(),
    expect: { data: expect.stringMatching(UPID) },
  },
  {
    line: 138,
    says: 'the id of a clone is its source',
    send: { ...clone(), as: 'deployment', form: { newid: 10_500, pool: 'hatchery-demo' } },
    expect: { data: expect.stringMatching(/:qmclone:9000:hatchery@pve!demo:$/) },
  },
  {
    line: 139,
    says: 'qmcreate',
    send: { call: 'POST /nodes/pve1/qemu', form: { vmid: 10_500 } },
    expect: { data: expect.stringMatching(/:qmcreate:10500:root@pam![^:]+:$/), exit: 'OK' },
  },
  {
    line: 139,
    says: 'qmconfig',
    send: { call: 'POST /nodes/pve1/qemu/100/config', form: { onboot: 1 } },
    expect: { data: expect.stringMatching(/:qmconfig:100:/), exit: 'OK' },
  },
  ...(['stop', 'shutdown', 'reset', 'suspend', 'reboot'] as const).map((verb) => ({
    line: 139,
    says: verb === 'suspend' ? 'qmpause or qmsuspend' : `qm${verb}`,
    send: `POST /nodes/pve1/qemu/100/status/${verb}`,
    expect: {
      data: expect.stringMatching(
        verb === 'suspend' ? /:(qmpause|qmsuspend):100:/ : new RegExp(`:qm${verb}:100:`),
      ) as unknown,
      exit: 'OK',
    },
  })),
  {
    line: 139,
    says: 'qmstart',
    given: ({ simulator }) => simulator.foreign.setRunning(100, false),
    send: 'POST /nodes/pve1/qemu/100/status/start',
    expect: { data: expect.stringMatching(/:qmstart:100:/), exit: 'OK' },
  },
  {
    line: 139,
    says: 'qmdestroy',
    given: ({ simulator }) => simulator.foreign.setRunning(100, false),
    send: 'DELETE /nodes/pve1/qemu/100',
    expect: { data: expect.stringMatching(/:qmdestroy:100:/), exit: 'OK' },
  },
  {
    line: 139,
    says: 'qmtemplate',
    given: ({ simulator }) => simulator.foreign.setRunning(100, false),
    send: 'POST /nodes/pve1/qemu/100/template',
    expect: { data: expect.stringMatching(/:qmtemplate:100:/), exit: 'OK' },
  },
  {
    line: 139,
    says: 'qmsnapshot',
    send: { call: 'POST /nodes/pve1/qemu/100/snapshot', form: { snapname: 'before' } },
    expect: { data: expect.stringMatching(/:qmsnapshot:100:/), exit: 'OK' },
  },
  {
    line: 139,
    says: 'qmrollback',
    given: (bench) =>
      bench.task({ call: 'POST /nodes/pve1/qemu/100/snapshot', form: { snapname: 'before' } }),
    send: 'POST /nodes/pve1/qemu/100/snapshot/before/rollback',
    expect: { data: expect.stringMatching(/:qmrollback:100:/), exit: 'OK' },
  },
  {
    line: 139,
    says: 'qmdelsnapshot',
    given: (bench) =>
      bench.task({ call: 'POST /nodes/pve1/qemu/100/snapshot', form: { snapname: 'before' } }),
    send: 'DELETE /nodes/pve1/qemu/100/snapshot/before',
    expect: { data: expect.stringMatching(/:qmdelsnapshot:100:/), exit: 'OK' },
  },
  {
    line: 139,
    says: 'resize',
    send: { call: 'PUT /nodes/pve1/qemu/100/resize', form: { disk: 'scsi0', size: '+1G' } },
    expect: { data: expect.stringMatching(/:resize:100:/), exit: 'OK' },
  },
  {
    line: 139,
    says: 'qmmove',
    given: ({ simulator }) => simulator.foreign.setRunning(100, false),
    send: {
      call: 'POST /nodes/pve1/qemu/100/move_disk',
      form: { disk: 'scsi0', storage: 'local-lvm' },
    },
    expect: { data: expect.stringMatching(/:qmmove:100:/), exit: 'OK' },
  },
  {
    line: 141,
    says: 'hastart of a guest that HA manages ends OK at once, and the real qmstart follows as root@pam',
    world: {
      ha: ['vm:104'],
      guests: [{ vmid: 104, node: 'pve3', kind: 'qemu', owner: 'bob', running: false }],
    },
    send: 'POST /nodes/pve3/qemu/104/status/start',
    expect: {
      data: expect.stringMatching(/:hastart:104:/),
      exit: 'OK',
      after: async ({ data }) => {
        for (;;) {
          const list = await data<{ type: string; user: string }[]>('GET /nodes/pve3/tasks?source=all');
          const start = list.find(({ type }) => type === 'qmstart');
          if (start) return expect(start.user).toBe('root@pam');
        }
      },
    },
  },
  {
    line: 142,
    says: 'the status of a task that runs',
    send: async (bench) => `GET ${taskPath(await runningClone(bench), '/status')}`,
    expect: {
      data: {
        upid: expect.stringMatching(UPID),
        node: 'pve1',
        pid: expect.any(Number),
        pstart: expect.any(Number),
        starttime: expect.any(Number),
        type: 'qmclone',
        id: '9000',
        user: 'root@pam',
        tokenid: 'simulator',
        status: 'running',
      },
      after: release,
    },
  },
  {
    line: 143,
    says: 'exitstatus once it is stopped',
    send: async (bench) => {
      const upid = await bench.data<string>(clone());
      await bench.follow(upid);
      return `GET ${taskPath(upid, '/status')}`;
    },
    expect: { data: expect.objectContaining({ status: 'stopped', exitstatus: 'OK' }) },
  },
  {
    line: 143,
    says: 'WARNINGS: n is success with warnings',
    given: async (bench) => {
      await bench.clone();
      bench.context.faults.add({
        id: 'busy',
        match: { op: 'qemu.destroy' },
        when: 'during',
        effect: 'hold-lock',
        value: 60_000,
      });
    },
    send: 'DELETE /nodes/pve1/qemu/10500',
    expect: { exit: /^WARNINGS: [12]$/, log: [/^TASK WARNINGS: [12]$/] },
  },
  {
    line: 144,
    says: 'the worker vanished: unexpected status',
    send: clone(),
    given: ({ context }) =>
      context.faults.add({
        id: 'crash',
        match: { op: 'qemu.clone' },
        when: 'during',
        effect: 'task-error',
        value: 'unexpected status',
      }),
    expect: { exit: 'unexpected status' },
  },
  {
    line: 144,
    says: 'the own tasks of a token are always readable',
    world: {
      tokens: [
        {
          id: 'eve@pve!tok',
          acl: [{ path: '/vms', privileges: ['VM.Audit', 'VM.PowerMgmt'] }],
        },
      ],
    },
    send: async (bench) => {
      const upid = await bench.data<string>({
        call: 'POST /nodes/pve1/qemu/100/status/stop',
        as: { token: 'eve@pve!tok' },
      });
      return { call: `GET ${taskPath(upid, '/status')}`, as: { token: 'eve@pve!tok' } };
    },
    expect: { data: expect.objectContaining({ type: 'qmstop', user: 'eve@pve', tokenid: 'tok' }) },
  },
  {
    line: 144,
    says: 'the tasks of others need Sys.Audit on the node',
    world: STRANGER,
    send: async (bench) => ({
      call: `GET ${taskPath(await bench.data<string>(clone()), '/status')}`,
      as: { token: 'eve@pve!tok' },
    }),
    expect: { status: 403, error: 'Permission check failed (/nodes/pve1, Sys.Audit)' },
  },
  {
    line: 144,
    says: 'a malformed UPID',
    send: 'GET /nodes/pve1/tasks/UPID:rubbish/status',
    expect: { errors: { upid: 'unable to parse worker upid' } },
  },
  {
    line: 144,
    says: 'an unknown UPID',
    send: `GET ${taskPath('UPID:pve1:00000001:00000001:60000000:qmclone:9000:root@pam:', '/status')}`,
    expect: { errors: { upid: 'no such task' } },
  },
  {
    line: 144,
    says: 'the UPID of another node',
    send: async (bench) => {
      const upid = await bench.data<string>(clone());
      return `GET ${taskPath(upid, '/status', 'pve2')}`;
    },
    expect: { errors: { upid: 'no such task' } },
  },
  {
    line: 144,
    says: 'the status of a task on a node that is off',
    given: ({ simulator }) => simulator.conditions.powerOff('pve2'),
    send: `GET ${taskPath('UPID:pve2:00000001:00000001:60000000:qmclone:9000:root@pam:', '/status', 'pve2')}`,
    expect: { status: 595, bare: 'No route to host' },
  },
  {
    line: 145,
    says: 'the log has 50 lines by default, its total in the envelope',
    send: async (bench) => {
      const upid = await bench.data<string>({
        call: 'POST /nodes/pve1/qemu/9000/clone',
        form: { newid: 10_500, full: 1 },
      });
      await bench.follow(upid);
      return `GET ${taskPath(upid, '/log?limit=2&start=1')}`;
    },
    expect: {
      data: [
        { n: 2, t: expect.any(String) },
        { n: 3, t: expect.any(String) },
      ],
      json: { total: expect.any(Number) },
    },
  },
  {
    line: 145,
    says: 'limit=0 gives the whole log, its last line the verdict',
    send: async (bench) => {
      const upid = await bench.data<string>(clone());
      await bench.follow(upid);
      return `GET ${taskPath(upid, '/log?limit=0')}`;
    },
    expect: {
      after: (_, reply) =>
        expect((reply.json.data as { t: string }[]).at(-1)).toMatchObject({ t: 'TASK OK' }),
    },
  },
  {
    line: 145,
    says: 'the first poll may show no content',
    given: ({ simulator }) => simulator.hold('qemu.start', 'task-start'),
    send: async (bench) => {
      bench.simulator.foreign.setRunning(100, false);
      const upid = await bench.data<string>('POST /nodes/pve1/qemu/100/status/start');
      await bench.simulator.reached('qemu.start', 'task-start');
      return `GET ${taskPath(upid, '/log')}`;
    },
    expect: {
      data: [{ n: 1, t: 'no content' }],
      after: ({ simulator }) => simulator.release('qemu.start', 'task-start'),
    },
  },
  {
    line: 145,
    says: 'TASK ERROR: with the text',
    send: clone(10_007),
    expect: { log: [/^TASK ERROR: close \(rename\) atomic file .* failed: File exists$/] },
  },
  {
    line: 146,
    says: 'DELETE stops a task',
    send: async (bench) => {
      const { simulator, data } = bench;
      simulator.hold('qemu.stop', 'task-start');
      const upid = await data<string>('POST /nodes/pve1/qemu/100/status/stop');
      await simulator.reached('qemu.stop', 'task-start');
      await data(`DELETE ${taskPath(upid)}`);
      expect((await bench.follow(upid)).exit).toMatch(/^(received interrupt|unexpected status)$/);
      simulator.release('qemu.stop', 'task-start');
      return `GET ${taskPath(upid, '/status')}`;
    },
    expect: { data: expect.objectContaining({ status: 'stopped' }) },
  },
  {
    line: 147,
    says: 'the list gives the exit text as status',
    given: async (bench) => {
      await bench.clone();
      await bench.task(clone(10_007));
    },
    send: 'GET /nodes/pve1/tasks?errors=1',
    expect: { data: [expect.objectContaining({ status: expect.stringMatching(/File exists$/) })] },
  },
  {
    line: 148,
    says: 'source=archive shows no running tasks',
    given: async (bench) => void (await runningClone(bench)),
    send: 'GET /nodes/pve1/tasks',
    expect: { data: [], after: release },
  },
  {
    line: 148,
    says: 'source=all shows them as RUNNING',
    given: async (bench) => void (await runningClone(bench)),
    send: 'GET /nodes/pve1/tasks?source=all',
    expect: {
      data: [expect.objectContaining({ type: 'qmclone', status: 'RUNNING' })],
      after: release,
    },
  },
  {
    line: 148,
    says: 'source=active shows them too',
    given: async (bench) => void (await runningClone(bench)),
    send: 'GET /nodes/pve1/tasks?source=active',
    expect: {
      data: [expect.objectContaining({ type: 'qmclone', status: 'RUNNING' })],
      after: release,
    },
  },
  {
    line: 148,
    says: 'the list has 50 entries by default',
    timeScale: 0.001,
    given: async (bench) => {
      for (let n = 0; n < 52; n += 1)
        await bench.task({ call: 'POST /nodes/pve1/qemu/100/config', form: { onboot: n % 2 } });
    },
    send: 'GET /nodes/pve1/tasks',
    expect: {
      json: { total: 52 },
      after: (_, reply) => expect(reply.json.data).toHaveLength(50),
    },
  },
  {
    line: 149,
    says: 'cluster/tasks holds at most 25 entries of a node when nothing runs',
    timeScale: 0.001,
    given: async (bench) => {
      for (let n = 0; n < 27; n += 1)
        await bench.task({ call: 'POST /nodes/pve1/qemu/100/config', form: { onboot: n % 2 } });
    },
    send: { call: 'GET /cluster/tasks', as: 'ticket' },
    expect: { after: (_, reply) => expect(reply.json.data).toHaveLength(25) },
  },
  {
    line: 150,
    says: 'cluster/tasks: a running task has neither endtime nor status',
    given: async (bench) => void (await runningClone(bench)),
    send: { call: 'GET /cluster/tasks', as: 'ticket' },
    expect: {
      data: [
        expect.toSatisfy(
          (task: object) => !('endtime' in task) && !('status' in task) && 'starttime' in task,
        ),
      ],
      after: release,
    },
  },
  {
    line: 150,
    says: 'a token without Sys.Audit on / sees none of its own tasks in cluster/tasks',
    world: {
      tokens: [{ id: 'eve@pve!tok', acl: [{ path: '/vms', privileges: ['VM.Audit', 'VM.PowerMgmt'] }] }],
    },
    given: (bench) =>
      bench.task({ call: 'POST /nodes/pve1/qemu/100/status/stop', as: { token: 'eve@pve!tok' } }),
    send: { call: 'GET /cluster/tasks', as: { token: 'eve@pve!tok' } },
    expect: { data: [] },
  },
  {
    line: 152,
    says: 'after a node reboot the status of its tasks is "unexpected status"',
    send: async (bench) => {
      const upid = await runningClone(bench);
      await bench.simulator.conditions.powerOff('pve1');
      await bench.simulator.conditions.powerOn('pve1');
      return { call: `GET ${taskPath(upid, '/status')}`, at: 1 };
    },
    expect: {
      data: expect.objectContaining({ status: 'stopped', exitstatus: 'unexpected status' }),
    },
  },
  {
    line: 153,
    says: 'config PUT has no task',
    send: { call: 'PUT /nodes/pve1/qemu/100/config', form: { onboot: 1 } },
    expect: { data: null },
  },
  {
    line: 153,
    says: 'pools have no task',
    send: { call: 'POST /pools', form: { poolid: 'p' } },
    expect: { data: null },
  },
]);
