import { expect } from 'vitest';
import { replayDossier, type DossierBench } from '../../support/dossier-table.js';

const clone = (newid: number, more: Record<string, string | number> = {}) => ({
  call: 'POST /nodes/pve1/qemu/9000/clone',
  form: { newid, ...more },
});
const create = (vmid: number) => ({ call: 'POST /nodes/pve1/qemu', form: { vmid } });
/** A clone that stands still in the middle, with its temporary config written. */
async function cloneHalfDone({ simulator, data }: DossierBench, newid: number): Promise<void> {
  simulator.hold('qemu.clone', 'task');
  await data(clone(newid));
  await simulator.reached('qemu.clone', 'task');
}

replayDossier('section 3: ids', [
  {
    line: 77,
    says: 'ids begin at 100',
    send: 'GET /cluster/nextid?vmid=99',
    expect: { errors: { vmid: 'invalid format - value does not look like a valid VM ID\n' } },
  },
  {
    line: 77,
    says: 'ids end at 999999999',
    send: 'GET /cluster/nextid?vmid=1000000000',
    expect: { errors: { vmid: 'invalid format - value does not look like a valid VM ID\n' } },
  },
  {
    line: 77,
    says: 'nextid gives the lowest free id of both kinds',
    send: 'GET /cluster/nextid',
    expect: { data: '102' },
  },
  {
    line: 77,
    says: 'nextid starts at the lower bound of datacenter.cfg',
    world: { nextId: [10_003, 10_010] },
    send: 'GET /cluster/nextid',
    expect: { data: '10004' },
  },
  {
    line: 78,
    says: 'nextid reserves nothing',
    given: ({ data }) => data('GET /cluster/nextid'),
    send: 'GET /cluster/nextid',
    expect: { data: '102' },
  },
  {
    line: 78,
    says: 'the range binds nextid only',
    world: { nextId: [200, 210] },
    send: clone(10_500),
    expect: { exit: 'OK' },
  },
  {
    line: 78,
    says: 'the range is exhausted',
    world: { nextId: [100, 102] },
    send: 'GET /cluster/nextid',
    expect: { error: /^unable to get any free VMID in range \[100, 10[12]\]$/ },
  },
  {
    line: 78,
    says: 'nextid?vmid of a free id gives it',
    send: 'GET /cluster/nextid?vmid=10500',
    expect: { data: expect.toSatisfy((id: unknown) => Number(id) === 10_500) },
  },
  {
    line: 78,
    says: 'nextid?vmid of a taken id',
    send: 'GET /cluster/nextid?vmid=100',
    expect: { errors: { vmid: 'VM 100 already exists' } },
  },
  {
    line: 79,
    says: 'nextid?vmid says VM for containers too',
    send: 'GET /cluster/nextid?vmid=101',
    expect: { errors: { vmid: 'VM 101 already exists' } },
  },
  {
    line: 80,
    says: 'create writes its config with lock: create before the call returns',
    given: ({ simulator }) => simulator.hold('qemu.create', 'task-start'),
    send: create(10_500),
    expect: {
      data: expect.stringMatching(/^UPID:pve1:.*:qmcreate:10500:/),
      after: ({ simulator }) => {
        expect(simulator.guest(10_500)!.config).toMatchObject({ lock: 'create' });
        simulator.release('qemu.create', 'task-start');
      },
    },
  },
  {
    line: 80,
    says: 'clone writes its config inside the task',
    given: ({ simulator }) => simulator.hold('qemu.clone', 'task-start'),
    send: clone(10_500),
    expect: {
      after: ({ simulator }) => {
        expect(simulator.guest(10_500)).toBeUndefined();
        simulator.release('qemu.clone', 'task-start');
      },
    },
  },
  {
    line: 82,
    says: 'create: the id is taken on another node',
    send: create(104),
    expect: { error: "unable to create VM 104 - VM 104 already exists on node 'pve3'" },
  },
  {
    line: 82,
    says: 'create: the id is taken on the same node',
    send: create(100),
    expect: { error: "unable to create VM 100 - VM 100 already exists on node 'pve1'" },
  },
  {
    line: 82,
    says: 'create: the id is taken by a container',
    send: create(101),
    expect: { error: "unable to create VM 101 - CT 101 already exists on node 'pve2'" },
  },
  {
    line: 84,
    says: 'clone: the id is taken on the same node',
    send: clone(100),
    expect: { error: 'unable to create VM 100: config file already exists' },
  },
  {
    line: 84,
    says: 'clone: the id is taken on another node, which the task finds out',
    send: clone(10_003),
    expect: {
      exit: "close (rename) atomic file '/etc/pve/nodes/pve1/qemu-server/10003.conf' failed: File exists",
    },
  },
  {
    line: 85,
    says: 'clone: the id is taken by a container, which the task finds out',
    send: clone(10_007),
    expect: {
      exit: "close (rename) atomic file '/etc/pve/nodes/pve1/qemu-server/10007.conf' failed: File exists",
      after: ({ simulator }) => expect(simulator.guest(10_007)).toMatchObject({ kind: 'lxc', node: 'pve3' }),
    },
  },
  {
    line: 86,
    says: 'two clones to one id at once: the loser waits 1 s for the flock',
    given: ({ simulator }) => simulator.hold('qemu.clone', 'task-start'),
    send: async ({ data }) => {
      await data(clone(10_500));
      return clone(10_500);
    },
    expect: {
      after: async (bench, reply) => {
        const { simulator, data } = bench;
        await simulator.reached('qemu.clone', 'task-start', 2);
        simulator.hold('qemu.clone', 'task');
        simulator.release('qemu.clone', 'task-start');
        await simulator.reached('qemu.clone', 'task');
        const tasks = await Promise.race([bench.follow(String(reply.json.data)), firstEnded(bench)]);
        expect(tasks.exit).toBe("can't lock file '/var/lock/qemu-server/lock-10500.conf' - got timeout");
        simulator.release('qemu.clone', 'task');
        const list = await data<{ status: string }[]>('GET /nodes/pve1/tasks?source=all');
        expect(list).toHaveLength(2);
      },
    },
  },
  {
    line: 87,
    says: 'two clones to one id: the winner finished already',
    given: (bench) => bench.clone(10_500),
    send: clone(10_500),
    expect: {
      error: 'unable to create VM 10500: config file already exists',
      after: ({ simulator }) => expect(simulator.guest(10_500)!.config).not.toHaveProperty('lock'),
    },
  },
  {
    line: 87,
    says: 'a failed loser cleans nothing of the winner',
    given: (bench) => cloneHalfDone(bench, 10_500),
    send: { ...clone(10_500), call: 'POST /nodes/pve1/qemu/9000/clone' },
    expect: {
      error: 'unable to create VM 10500: config file already exists',
      after: ({ simulator }) => {
        expect(simulator.guest(10_500)!.config).toMatchObject({ lock: 'clone' });
        simulator.release('qemu.clone', 'task');
      },
    },
  },
  {
    line: 89,
    says: 'an id is free again when the guest is gone',
    given: async (bench) => {
      await bench.clone(102);
      await bench.task('DELETE /nodes/pve1/qemu/102');
    },
    send: 'GET /cluster/nextid',
    expect: { data: '102' },
  },
]);

async function firstEnded(bench: DossierBench): Promise<{ exit: string; log: string[] }> {
  for (;;) {
    const list = await bench.data<{ upid: string }[]>('GET /nodes/pve1/tasks');
    if (list[0]) return bench.follow(list[0].upid);
  }
}
