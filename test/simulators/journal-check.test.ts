import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkJournal, type CheckOptions } from '../../src/simulators/journal/check.js';
import { sentences, type JournalVerdict } from '../../src/simulators/journal/verdict.js';

const US = 'hatchery@pve!demo';
const OTHER = 'hatchery@pve!lyon';
const DEPLOYMENT = 'a0000000-0000-4000-8000-000000000001';
const DHCP_ACCOUNT = 'SIM\\hatchery';
const GATEWAY_ACCOUNT = 'hatchery';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'journal-check-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

type Line = Record<string, unknown>;

/** Id of the machine that has this VMID. */
const machineOf = (vmid: number): string => `b0000000-0000-4000-8000-${String(vmid).padStart(12, '0')}`;
const mark = (vmid: number, deployment = DEPLOYMENT, machine = machineOf(vmid)): string =>
  `[hatchery v1 deployment=${deployment} machine=${machine} run=c0000000-0000-4000-8000-000000000001 step=clone vmid=${vmid} attempt=1]`;

/** Writes journal lines in the order in which they are said; `at` puts one at another time. */
class Story {
  private readonly lines: Line[] = [];

  constructor() {
    this.add({
      sim: 'world',
      event: 'world',
      actor: 'simulator',
      params: {
        timeScale: 1,
        cluster: 'c1',
        pools: ['hatchery-demo'],
        guests: [
          { vmid: 100, kind: 'qemu', node: 'pve1', owner: 'alice', incarnation: 'i-100' },
          { vmid: 9000, kind: 'qemu', node: 'pve1', owner: 'admin', incarnation: 'i-9000', template: true },
        ],
      },
    });
  }

  add(line: Line): this {
    const seq = this.lines.length + 1;
    this.lines.push({ v: 1, ns: String(1000 + seq), writer: 'w1', seq, ...line });
    return this;
  }

  /** What is done over SSH to the hook of a machine. */
  nodeFile(verb: 'put' | 'remove', vmid: number): this {
    const resource = `pve1:/var/lib/hatchery/hooks/${machineOf(vmid)}.first-boot`;
    return this.add({
      sim: 'proxmox',
      event: 'request',
      actor: US,
      op: `ssh.file.${verb}`,
      effect: true,
      resource,
    });
  }

  task(op: string, vmid: number, params: Line = {}, more: Line = {}): this {
    const line = {
      sim: 'proxmox',
      event: 'task-end',
      actor: US,
      cluster: 'c1',
      node: 'pve1',
      op,
      vmid,
      incarnation: `i-${vmid}`,
      effect: true,
    };
    return this.add({ ...line, params: { verdict: 'OK', ...params }, ...more });
  }

  clone(vmid: number, params: Line = {}, more: Line = {}): this {
    return this.task(
      'qemu.clone',
      vmid,
      { source: 9000, mac: `02:00:00:00:00:${vmid % 100}`, name: `vm-${vmid}`, mark: mark(vmid), ...params },
      more,
    );
  }

  /** A request to clone; without an answer unless `more` says so. */
  ask(vmid: number, more: Line = {}): this {
    const line = {
      sim: 'proxmox',
      event: 'request',
      actor: US,
      op: 'qemu.clone',
      cluster: 'c1',
      node: 'pve1',
    };
    return this.add({ ...line, vmid, effect: false, answered: false, ...more });
  }

  read(op: string, more: Line = {}): this {
    const line = {
      sim: 'proxmox',
      event: 'request',
      actor: US,
      cluster: 'c1',
      effect: false,
      answered: true,
    };
    return this.add({ ...line, op, status: 200, ...more });
  }

  start(vmid: number, params: Line = {}): this {
    return this.task('qemu.start', vmid, { allowed: true, address: `10.20.0.${vmid % 100}`, ...params });
  }

  config(vmid: number, params: Line = {}, more: Line = {}): this {
    return this.task(
      'qemu.config.put',
      vmid,
      { mac: `02:00:00:00:00:${vmid % 100}`, name: `vm-${vmid}`, mark: mark(vmid), ...params },
      { event: 'request', ...more },
    );
  }

  dhcp(op: 'dhcp.allow' | 'dhcp.remove', mac: string, actor = DHCP_ACCOUNT): this {
    return this.add({
      sim: 'winrm',
      event: 'request',
      actor,
      op,
      effect: true,
      resource: mac,
      params: { description: 'x', list: 'Allow' },
    });
  }

  gateway(op: string, resource: string, params: Line = {}, actor = GATEWAY_ACCOUNT): this {
    return this.add({
      sim: 'guacamole',
      event: 'request',
      actor,
      op: `guacamole.${op}`,
      effect: true,
      resource,
      params,
    });
  }

  permission(op: 'add' | 'remove', login: string, kind: string, id: string, actor = GATEWAY_ACCOUNT): this {
    return this.gateway(`permission.${op}`, login, { kind, id, permission: 'READ' }, actor);
  }

  /** A machine as it should be: guest, filter, connection in the batch's group, account, permissions. */
  machine(vmid: number): this {
    const login = `user${vmid}`;
    if (!this.lines.some((line) => line['op'] === 'guacamole.group.create'))
      this.gateway('group.create', '1', { name: 'class', parent: 'ROOT' });
    return this.dhcp('dhcp.allow', `02:00:00:00:00:${vmid % 100}`)
      .clone(vmid)
      .config(vmid)
      .start(vmid)
      .gateway('connection.create', String(vmid), {
        name: `vm-${vmid}`,
        parent: '1',
        hostname: `10.20.0.${vmid % 100}`,
      })
      .gateway('user.create', login)
      .permission('add', login, 'connection', String(vmid))
      .permission('add', login, 'connectionGroup', '1');
  }

  remove(vmid: number): this {
    const login = `user${vmid}`;
    return this.permission('remove', login, 'connectionGroup', '1')
      .gateway('connection.delete', String(vmid))
      .gateway('user.delete', login)
      .task('qemu.stop', vmid)
      .task('qemu.destroy', vmid, { freed: [`ceph:vm-${vmid}-disk-0`] })
      .dhcp('dhcp.remove', `02:00:00:00:00:${vmid % 100}`);
  }

  file(text = this.text()): string {
    const path = join(dir, 'journal.ndjson');
    writeFileSync(path, text);
    return path;
  }

  text(): string {
    return this.lines.map((line) => `${JSON.stringify(line)}\n`).join('');
  }

  check(options: CheckOptions = {}): Promise<JournalVerdict> {
    return checkJournal(this.file(), options);
  }
}

const story = (): Story => new Story();
const rules = (verdict: JournalVerdict): string[] => verdict.findings.map(({ rule }) => rule);

function write(name: string, rows: unknown): string {
  const path = join(dir, name);
  writeFileSync(path, JSON.stringify(rows));
  return path;
}
/** As `hatchery admin export` writes it. */
const writeExport = (...rows: Line[]): string =>
  write('export.json', [{ row: 'export', v: 1 }, ...rows, { row: 'end', rows: rows.length }]);
const exported = (vmid: number, more: Line = {}): Line => ({
  row: 'machine',
  id: machineOf(vmid),
  batch: 'class',
  name: `vm-${vmid}`,
  vmid,
  mac: `02:00:00:00:00:${vmid % 100}`,
  address: `10.20.0.${vmid % 100}`,
  login: `user${vmid}`,
  state: 'ready',
  run: `run-${vmid}`,
  ...more,
});
const run = (vmid: number, state = 'done'): Line => ({
  row: 'run',
  id: `run-${vmid}`,
  machine: machineOf(vmid),
  state,
});
const effect = (vmid: number, kind: string, key: string, state = 'released'): Line => ({
  row: 'effect',
  run: `run-${vmid}`,
  kind,
  key,
  state,
});

describe('a run in order', () => {
  it('passes, and tells how much was done', async () => {
    const verdict = await story().machine(10_011).machine(10_012).check();
    expect(verdict).toMatchObject({ ok: true, collisions: 0, foreignWrites: 0, missing: [], findings: [] });
    expect(verdict.counts).toMatchObject({
      guestsCreated: 2,
      guestsStarted: 2,
      filtersAdded: 2,
      connectionsCreated: 2,
      permissionsAdded: 4,
    });
  });

  it('passes with the list of what the product says it has', async () => {
    const exportFile = writeExport(exported(10_011), exported(10_012));
    expect(await story().machine(10_011).machine(10_012).check({ exportFile })).toMatchObject({ ok: true });
  });

  it('has nothing left after everything was deleted', async () => {
    const verdict = await story()
      .machine(10_011)
      .remove(10_011)
      .gateway('group.delete', '1')
      .check({ expectNothingLeft: true });
    expect(verdict).toMatchObject({ ok: true, left: 0, leftItems: [] });
  });

  it('lets people and other deployments do what they want with their own', async () => {
    const verdict = await story()
      .machine(10_011)
      .add({
        sim: 'proxmox',
        event: 'foreign',
        actor: 'foreign:bob',
        op: 'foreign.create',
        cluster: 'c1',
        vmid: 200,
        incarnation: 'i-200',
        effect: true,
        params: {},
      })
      .add({
        sim: 'proxmox',
        event: 'foreign',
        actor: 'foreign:bob',
        op: 'foreign.delete',
        cluster: 'c1',
        vmid: 200,
        incarnation: 'i-200',
        effect: true,
        params: {},
      })
      .clone(10_020, { mark: mark(10_020, 'other') }, { actor: OTHER })
      .task('qemu.destroy', 10_020, {}, { actor: OTHER })
      .task('qemu.stop', 100, {}, { actor: 'root@pam!simulator' })
      .check();
    expect(verdict.ok).toBe(true);
  });

  it('lets us write to what an admin put into our pool', async () => {
    const put = {
      sim: 'proxmox',
      event: 'request',
      op: 'pools.put',
      cluster: 'c1',
      effect: true,
      params: { pool: 'hatchery-demo', added: [100], removed: [] },
    };
    const verdict = await story()
      .machine(10_011)
      .add({ ...put, actor: 'root@pam!simulator' })
      .task('qemu.stop', 100)
      .check();
    expect(verdict.ok).toBe(true);
  });
});

describe('collisions', () => {
  it('sees a VMID that is used while another guest has it', async () => {
    const verdict = await story()
      .machine(10_011)
      .clone(10_011, {}, { incarnation: 'i-again', actor: OTHER })
      .check();
    expect(rules(verdict)).toContain('vmid-collision');
    expect(verdict.ok).toBe(false);
  });

  it('allows a VMID again once it was free', async () => {
    const verdict = await story()
      .machine(10_011)
      .remove(10_011)
      .clone(10_011, {}, { incarnation: 'i-again' })
      .check();
    expect(verdict.collisions).toBe(0);
  });

  it.each([
    ['mac-collision', (one: Story) => one.machine(10_011).clone(10_012, { mac: '02:00:00:00:00:11' })],
    [
      'mac-collision',
      (one: Story) => one.machine(10_011).clone(10_012).config(10_012, { mac: '02:00:00:00:00:11' }),
    ],
    ['name-collision', (one: Story) => one.machine(10_011).clone(10_012, { name: 'vm-10011' })],
    [
      'address-collision',
      (one: Story) => one.machine(10_011).clone(10_012).start(10_012, { address: '10.20.0.11' }),
    ],
  ])('sees a %s', async (rule, tell) => {
    const verdict = await tell(story()).check();
    expect(rules(verdict)).toEqual([rule]);
    expect(verdict.collisions).toBe(1);
  });

  it('lets two deployments have machines of one name', async () => {
    const verdict = await story()
      .machine(10_011)
      .clone(10_012, { name: 'vm-10011' }, { actor: OTHER })
      .check();
    expect(verdict.collisions).toBe(0);
  });
});

describe('writes to what is not ours', () => {
  const clone = (vmid: number): Story => story().machine(10_011).clone(vmid, {}, { actor: OTHER });
  it.each([
    [
      'a config write to a guest that was there before',
      () => story().machine(10_011).config(100, {}, { incarnation: 'i-100' }),
    ],
    ['a start of it', () => story().machine(10_011).start(100)],
    ['a stop of it', () => story().machine(10_011).task('qemu.stop', 100)],
    ['a delete of it', () => story().machine(10_011).task('qemu.destroy', 100)],
    ['a write to the template', () => story().machine(10_011).task('qemu.resize', 9000)],
    ['a write to the guest of another deployment', () => clone(10_020).config(10_020)],
    [
      'a write to a guest whose mark names another VMID',
      () =>
        story()
          .machine(10_011)
          .config(10_011, { mark: mark(10_099) })
          .task('qemu.stop', 10_011),
    ],
    [
      'a write to a guest whose mark names another deployment',
      () =>
        story()
          .machine(10_011)
          .config(10_011, { mark: mark(10_011, 'd0000000-0000-4000-8000-000000000002') })
          .task('qemu.stop', 10_011),
    ],
    [
      'a pool change of a foreign guest',
      () =>
        story()
          .machine(10_011)
          .add({
            sim: 'proxmox',
            event: 'request',
            actor: US,
            op: 'pools.put',
            cluster: 'c1',
            effect: true,
            params: { pool: 'hatchery-demo', added: [100], removed: [] },
          }),
    ],
    [
      'a volume of another VMID that went with ours',
      () =>
        story()
          .machine(10_011)
          .task('qemu.destroy', 10_011, { freed: ['ceph:vm-100-disk-0'] }),
    ],
    [
      'the removal of a foreign filter',
      () =>
        story()
          .machine(10_011)
          .dhcp('dhcp.allow', '02:00:00:00:00:99', 'SIM\\Administrator')
          .dhcp('dhcp.remove', '02:00:00:00:00:99'),
    ],
    [
      'the removal of a filter that was there before',
      () => story().machine(10_011).dhcp('dhcp.remove', '00:1b:a9:3c:12:7f'),
    ],
    [
      'the delete of a foreign connection',
      () => story().machine(10_011).gateway('connection.delete', '77', { name: 'Salle 204' }),
    ],
    ['an edit of a foreign account', () => story().machine(10_011).gateway('user.update', 'c.martin')],
    [
      'a permission on a foreign connection',
      () => story().machine(10_011).permission('add', 'user10011', 'connection', '77'),
    ],
    [
      'the removal of a permission that we did not give',
      () => story().machine(10_011).permission('remove', 'c.martin', 'connection', '77'),
    ],
  ])('sees %s', async (_, tell) => {
    const verdict = await tell().check({ parts: { filter: false, desktop: false } });
    expect(rules(verdict)).toEqual(['foreign-write']);
    expect(verdict).toMatchObject({ ok: false, foreignWrites: 1 });
  });

  it('forgives what was refused', async () => {
    const verdict = await story()
      .machine(10_011)
      .task('qemu.destroy', 100, { verdict: 'permission denied' }, { effect: false })
      .check();
    expect(verdict.ok).toBe(true);
  });

  it('gives our permission to a foreign account without complaint', async () => {
    const verdict = await story()
      .machine(10_011)
      .permission('add', 'c.martin', 'connection', '10011')
      .permission('remove', 'c.martin', 'connection', '10011')
      .check();
    expect(verdict.ok).toBe(true);
  });

  it('sees a destroy that takes unreferenced disks', async () => {
    const request = {
      sim: 'proxmox',
      event: 'request',
      actor: US,
      op: 'qemu.destroy',
      cluster: 'c1',
      vmid: 10_011,
      effect: false,
    };
    const verdict = await story()
      .machine(10_011)
      .add({ ...request, params: { purge: '1', 'destroy-unreferenced-disks': '1' } })
      .check();
    expect(rules(verdict)).toEqual(['unreferenced-disks']);
  });

  it('sees a script whose text is not constant', async () => {
    const command = {
      sim: 'winrm',
      event: 'request',
      actor: DHCP_ACCOUNT,
      op: 'winrm.command',
      effect: false,
    };
    const verdict = await story()
      .machine(10_011)
      .add({ ...command, params: { script: 'dhcp-filter-allow v1', digest: 'aa' } })
      .add({ ...command, params: { script: 'dhcp-filter-allow v1', digest: 'bb' } })
      .check();
    expect(rules(verdict)).toEqual(['script-changed']);
  });
});

describe('what a ready machine needs', () => {
  it.each([
    ['filter', (one: Story) => one.dhcp('dhcp.remove', '02:00:00:00:00:11')],
    ['connection', (one: Story) => one.gateway('connection.delete', '10011')],
    ['permission', (one: Story) => one.permission('remove', 'user10011', 'connection', '10011')],
    ['permission', (one: Story) => one.permission('remove', 'user10011', 'connectionGroup', '1')],
  ] as const)('misses its %s', async (what, spoil) => {
    const spoiled = (): Story => spoil(story().machine(10_011));
    expect((await spoiled().check()).missing).toEqual([{ machine: 'vm-10011', vmid: 10_011, what }]);
    const exportFile = writeExport(exported(10_011));
    expect((await spoiled().check({ exportFile })).missing).toEqual([
      { machine: 'vm-10011', vmid: 10_011, what },
    ]);
  });

  it.each([
    ['guest', { vmid: 10_012 }],
    ['mac', { mac: '02:00:00:00:00:99' }],
    ['address', { address: '10.20.0.99' }],
    ['permission', { login: 'somebody' }],
  ])('misses the %s that the product says it has', async (what, more) => {
    const exportFile = writeExport(exported(10_011, more));
    const verdict = await story().machine(10_011).check({ exportFile });
    expect(verdict.ok).toBe(false);
    expect(verdict.missing.map((one) => one.what)).toEqual([what]);
  });

  it('misses a machine that was stopped', async () => {
    const exportFile = writeExport(exported(10_011));
    const verdict = await story().machine(10_011).task('qemu.stop', 10_011).check({ exportFile });
    expect(verdict.missing.map((one) => one.what)).toContain('running');
  });

  it('misses a connection that leads somewhere else', async () => {
    const verdict = await story()
      .machine(10_011)
      .gateway('connection.update', '10011', { name: 'vm-10011', parent: '1', hostname: '10.20.0.99' })
      .check();
    expect(verdict.missing.map((one) => one.what)).toEqual(['connection']);
  });
});

describe('what is left', () => {
  it.each([
    ['guest 10012 (vm-10012)', (one: Story) => one.clone(10_012)],
    ['filter 02:00:00:00:00:99', (one: Story) => one.dhcp('dhcp.allow', '02:00:00:00:00:99')],
    [
      'connection 5 (old)',
      (one: Story) => one.gateway('connection.create', '5', { name: 'old', parent: 'ROOT' }),
    ],
    [
      'connection group 9 (old)',
      (one: Story) => one.gateway('group.create', '9', { name: 'old', parent: 'ROOT' }),
    ],
    ['account ghost', (one: Story) => one.gateway('user.create', 'ghost')],
    [
      'membership of VMID 10012 in hatchery-demo',
      (one: Story) =>
        one.add({
          sim: 'proxmox',
          event: 'request',
          actor: US,
          op: 'pools.put',
          cluster: 'c1',
          effect: true,
          params: { pool: 'hatchery-demo', added: [10_012], removed: [] },
        }),
    ],
    [
      'volume ceph:vm-10012-disk-0',
      (one: Story) => one.task('qemu.clone', 10_012, { left: ['ceph:vm-10012-disk-0'] }, { effect: false }),
    ],
    [
      `file pve1:/var/lib/hatchery/hooks/${machineOf(10_012)}.first-boot`,
      (one: Story) => one.nodeFile('put', 10_011).nodeFile('remove', 10_011).nodeFile('put', 10_012),
    ],
  ])('names %s', async (item, leave) => {
    const exportFile = writeExport(exported(10_011));
    const beside = await leave(story().machine(10_011)).check({ exportFile });
    expect(beside.findings).toEqual([
      { rule: 'left-behind', line: 0, detail: `${item}, which no machine has` },
    ]);
    const after = await leave(story().machine(10_011).remove(10_011).gateway('group.delete', '1')).check({
      expectNothingLeft: true,
    });
    expect(after).toMatchObject({ ok: false, left: 1, leftItems: [item] });
  });

  it('names a permission of a machine that is gone', async () => {
    const verdict = await story()
      .machine(10_011)
      .permission('add', 'c.martin', 'connectionGroup', '1')
      .remove(10_011)
      .check();
    expect(verdict.leftItems).toContain('permission READ of c.martin on connectionGroup 1');
  });

  it('counts a machine of the list that is deleted as gone', async () => {
    const exportFile = writeExport(exported(10_011, { state: 'deleted' }));
    expect(rules(await story().machine(10_011).check({ exportFile }))).toContain('left-behind');
  });

  it('is nobody’s fault where a person let go of it', async () => {
    const released = [
      effect(10_011, 'guest', '10011'),
      effect(10_011, 'dhcp-filter', '02:00:00:00:00:11'),
      effect(10_011, 'desktop-connection', 'class/vm-10011'),
      effect(10_012, 'desktop-user', 'user10012'),
      effect(10_012, 'desktop-group', 'kept'),
    ];
    const verdict = await story()
      .machine(10_011)
      .gateway('user.create', 'user10012')
      .gateway('group.create', '7', { name: 'kept', parent: 'ROOT' })
      .check({
        exportFile: writeExport(
          exported(10_011, { state: 'deleted' }),
          exported(10_012, { state: 'deleted' }),
          run(10_011, 'cancelled'),
          run(10_012, 'cancelled'),
          ...released,
        ),
      });
    expect(verdict.findings).toEqual([]);
  });

  it.each([
    ['was undone', effect(10_012, 'guest', '10012', 'undone')],
    ['is of another machine', effect(10_011, 'guest', '10012')],
  ])('is left behind where the effect %s', async (_, row) => {
    const verdict = await story()
      .machine(10_011)
      .clone(10_012)
      .check({
        exportFile: writeExport(
          exported(10_011),
          exported(10_012, { state: 'deleted' }),
          run(10_011),
          run(10_012, 'cancelled'),
          row,
        ),
      });
    expect(rules(verdict)).toEqual(['left-behind']);
  });

  it('forgives a volume that the product told people about', async () => {
    const reservation = { row: 'reservation', kind: 'vmid', value: '10012', note: 'a volume is left' };
    const verdict = await story()
      .machine(10_011)
      .task('qemu.clone', 10_012, { left: ['ceph:vm-10012-disk-0'] }, { effect: false })
      .check({ exportFile: writeExport(exported(10_011), reservation) });
    expect(verdict.ok).toBe(true);
  });

  it('knows that a guest takes its membership of our pool along', async () => {
    const verdict = await story()
      .machine(10_011)
      .clone(10_012, { pool: 'hatchery-demo' })
      .task('qemu.destroy', 10_012)
      .check({ exportFile: writeExport(exported(10_011)) });
    expect(verdict.ok).toBe(true);
  });

  it('names a guest that has the VMID of a machine and the mark of another one', async () => {
    const verdict = await story()
      .machine(10_011)
      .config(10_011, { mark: mark(10_011, DEPLOYMENT, machineOf(10_099)) })
      .check({ exportFile: writeExport(exported(10_011)) });
    expect(rules(verdict)).toEqual(['left-behind']);
  });
});

const task = (event: string): Line => ({
  sim: 'proxmox',
  event,
  actor: US,
  op: 'qemu.clone',
  cluster: 'c1',
  node: 'pve1',
  vmid: 10_012,
});

describe('a second request for a guest', () => {
  const again = (one: Story): Promise<JournalVerdict> =>
    one
      .ask(10_012, { answered: true, status: 200 })
      .clone(10_012)
      .check({ parts: { desktop: false, filter: false } });

  it.each([
    ['without an answer', {}],
    ['that a proxy lost', { answered: true, status: 596 }],
    ['that was accepted', { answered: true, status: 200 }],
  ])('after one %s is seen', async (_, first) => {
    const verdict = await again(story().machine(10_011).ask(10_012, first));
    expect(rules(verdict)).toEqual(['blind-repeat']);
  });

  const tasks = (one: Story, params: Line = {}, more: Line = {}): Story =>
    one.read('tasks.list', { node: 'pve1', params: { source: 'all', ...params }, ...more });
  const free = (one: Story): Story => one.read('cluster.nextid', { params: { vmid: '10012' } });
  const lost = (): Story =>
    story()
      .machine(10_011)
      .ask(10_012, { params: { source: '9000' } });
  const UPID = 'UPID:pve1:1';
  const begun = (): Story => lost().add({ ...task('task-start'), upid: UPID });

  it.each<[string, Story]>([
    ['the tasks of its node and the id', free(tasks(lost()))],
    [
      'the clones of its template, and where its config would be',
      tasks(lost(), { vmid: '9000', typefilter: 'qmclone', since: '1' }).read('qemu.config.get', {
        vmid: 10_012,
        status: 500,
        params: { error: "Configuration file 'nodes/pve1/qemu-server/10012.conf' does not exist" },
      }),
    ],
    [
      'its task and its guest',
      begun()
        .read('task.status', { params: { upid: UPID } })
        .read('qemu.config.get', { vmid: 10_012 }),
    ],
  ])('is in order after a look at %s', async (_, looked) => {
    expect((await again(looked)).findings).toEqual([]);
  });

  it.each<[string, Story]>([
    ['at its tasks only', tasks(lost())],
    ['at its id only', free(lost())],
    ['at all guests of the cluster', tasks(lost()).read('cluster.resources')],
    ['at another guest', tasks(lost()).read('qemu.config.get', { vmid: 10_011 })],
    ['at another task', free(begun().read('task.log', { params: { upid: 'UPID:pve1:2' } }))],
    ['at the tasks of another node', free(tasks(lost(), {}, { node: 'pve2' }))],
    ['at the tasks of another template', free(tasks(lost(), { vmid: '9001' }))],
    ['at tasks of another kind', free(tasks(lost(), { typefilter: 'qmstart' }))],
    ['at the tasks that run', free(tasks(lost(), { source: 'active' }))],
    ['that got no answer', free(tasks(lost(), {}, { answered: false }))],
    ['that was refused', free(tasks(lost(), {}, { status: 500 }))],
    [
      'at a config that could not be read',
      tasks(lost()).read('qemu.config.get', {
        vmid: 10_012,
        status: 500,
        params: { error: 'cluster not ready - no quorum?' },
      }),
    ],
    ['by somebody else', free(tasks(lost(), {}, { actor: OTHER }))],
  ])('is not in order after a look %s', async (_, looked) => {
    expect(rules(await again(looked))).toEqual(['blind-repeat']);
  });

  it.each([
    ['refused', { answered: true, status: 500 }],
    ['never connected', { answered: true, status: 595 }],
  ])('is in order when the first was %s', async (_, first) => {
    expect((await again(story().machine(10_011).ask(10_012, first))).ok).toBe(true);
  });
});

describe('a VMID that was freed', () => {
  const freed = (): Story => story().machine(10_011).remove(10_011).gateway('group.delete', '1');
  const parts = { desktop: false, filter: false };

  it('may not be given to another machine before it rested', async () => {
    const verdict = await freed()
      .clone(10_011, { mark: mark(10_011, DEPLOYMENT, machineOf(10_099)) }, { incarnation: 'i-again' })
      .check({ parts });
    expect(rules(verdict)).toEqual(['reused-early']);
  });

  it('may be given to another machine afterwards', async () => {
    const verdict = await freed()
      .clone(10_011, { mark: mark(10_011, DEPLOYMENT, machineOf(10_099)) }, { incarnation: 'i-again' })
      .check({ parts, restMs: 0 });
    expect(verdict.ok).toBe(true);
  });

  it('may be given to the same machine when it is made anew', async () => {
    const verdict = await freed().clone(10_011, {}, { incarnation: 'i-again' }).check({ parts });
    expect(verdict.ok).toBe(true);
  });
});

describe('submits', () => {
  const submitsFile = (): string =>
    write('submits.json', [
      { key: 'k1', machines: ['vm-10011', 'vm-10012'] },
      { key: 'k1', machines: ['vm-10011', 'vm-10012'] },
    ]);

  it('are all there, once', async () => {
    expect((await story().machine(10_011).machine(10_012).check({ submitsFile: submitsFile() })).ok).toBe(
      true,
    );
  });

  it('may not be lost', async () => {
    expect(rules(await story().machine(10_011).check({ submitsFile: submitsFile() }))).toEqual([
      'lost-submit',
    ]);
  });

  it('may not be done twice', async () => {
    const verdict = await story()
      .machine(10_011)
      .machine(10_012)
      .clone(10_013, { name: 'vm-10011' })
      .check({ submitsFile: submitsFile() });
    expect(rules(verdict)).toEqual(['name-collision', 'double-machine']);
  });
});

describe('submits beside an export', () => {
  const submitsFile = (): string =>
    write('submits.json', [{ key: 'k1', batch: 'class', machines: ['vm-10011'] }]);
  const check = (...rows: Line[]): Promise<JournalVerdict> =>
    story()
      .machine(10_011)
      .check({ submitsFile: submitsFile(), exportFile: writeExport(...rows) });

  it.each(['done', 'failed', 'cancelled', 'parked'])('have ended when their run is %s', async (state) => {
    expect((await check(exported(10_011), run(10_011, state))).ok).toBe(true);
  });

  it.each(['queued', 'running', 'undoing'])('have not ended when their run is %s', async (state) => {
    expect(rules(await check(exported(10_011), run(10_011, state)))).toEqual(['unended-run']);
  });

  it('have not ended when they have no run', async () => {
    expect(rules(await check(exported(10_011, { run: null })))).toEqual(['unended-run']);
  });

  it('are lost when nobody knows their machine', async () => {
    expect(rules(await check(exported(10_011, { batch: 'another' }), run(10_011)))).toEqual(['lost-submit']);
  });

  it('may not have two guests with the mark of one machine', async () => {
    const verdict = await story()
      .machine(10_011)
      .clone(10_012, { mark: mark(10_012, DEPLOYMENT, machineOf(10_011)) })
      .check({ exportFile: writeExport(exported(10_011), exported(10_012, { state: 'parked' })) });
    expect(rules(verdict)).toEqual(['double-machine', 'left-behind']);
  });

  it('are not judged by an export that was cut off', async () => {
    const exportFile = write('export.json', [{ row: 'export', v: 1 }, exported(10_011)]);
    await expect(story().machine(10_011).check({ exportFile })).rejects.toThrow('no whole export');
  });
});

describe('a run that is meant to go through something', () => {
  const fault = (id: string): Line => ({ sim: 'proxmox', event: 'fault', actor: 'simulator', fault: id });
  const work = { items: 1, faults: ['a', 'b'], kills: 10, killsLanded: 8 };

  it('proves it when it came', async () => {
    const verdict = await story().machine(10_011).add(fault('a')).add(fault('b')).check({ work });
    expect(verdict).toMatchObject({ ok: true, void: [] });
  });

  it.each([
    ['foreign-bob@pve did only 1 of 20 things', { deeds: { 'foreign-bob@pve': 20, 'foreign-eve@pve': 10 } }],
    ['foreign-ann@pve did only 0 of 1 things', { deeds: { 'foreign-ann@pve': 1 } }],
    ['only 1 guests were made for 2 items', { items: 2 }],
    ['only 2 of 3 faults fired', { faults: ['a', 'b', 'c'] }],
    ['only 7 of 10 kills landed inside a step', { killsLanded: 7 }],
  ])('proves nothing when %s', async (why, less) => {
    const deed = (who: string): Line => ({
      sim: 'proxmox',
      event: 'request',
      actor: `foreign-${who}@pve!hand`,
      op: 'qemu.config.put',
      cluster: 'c1',
      vmid: 200,
      effect: true,
    });
    const verdict = await story()
      .machine(10_011)
      .add(fault('a'))
      .add(fault('b'))
      .add(deed('bob'))
      .add(deed('eve'))
      .check({ work: { ...work, ...less } });
    expect(verdict).toMatchObject({ ok: true, void: [why] });
    expect(sentences(verdict).join('\n')).toContain(`void: ${why}`);
  });
});

describe('the journal itself', () => {
  it('proves nothing when nothing was done', async () => {
    expect(rules(await story().check())).toEqual(['no-work']);
    expect(rules(await story().machine(10_011).check({ minimumGuests: 2 }))).toEqual(['no-work']);
  });

  it('must begin with the world', async () => {
    const text = story().machine(10_011).text();
    const verdict = await checkJournal(story().file(text.slice(text.indexOf('\n') + 1)));
    expect(rules(verdict)).toContain('no-world');
  });

  it('may end in a torn line, but not hold one', async () => {
    const text = story().machine(10_011).text();
    expect((await checkJournal(story().file(`${text}{"v":1,"ns":"99`))).ok).toBe(true);
    const verdict = await checkJournal(story().file(`${text}{"v":1,"ns":"99\n`));
    expect(rules(verdict)).toEqual(['unreadable-line']);
    expect(verdict.counts.unreadable).toBe(1);
  });

  it('is put in order when several writers wrote it', async () => {
    const told = story().machine(10_011).text().trim().split('\n');
    const [world = '', ...rest] = told;
    const verdict = await checkJournal(story().file(`${[world, ...rest.reverse()].join('\n')}\n`));
    expect(verdict.ok).toBe(true);
  });

  it('counts tasks that have no end', async () => {
    const open = {
      sim: 'proxmox',
      event: 'task-start',
      actor: US,
      op: 'qemu.clone',
      cluster: 'c1',
      vmid: 10_012,
      upid: 'UPID:x',
      params: { type: 'qmclone' },
    };
    expect((await story().machine(10_011).add(open).check()).counts.openTasks).toBe(1);
  });

  it('gives a verdict in sentences', async () => {
    const text = sentences(await story().machine(10_011).task('qemu.stop', 100).check()).join('\n');
    expect(text).toContain(
      'foreign-write (line 11): hatchery@pve!demo did qemu.stop on VMID 100, which was there before',
    );
    expect(text).toContain('1 guests created');
    expect(text).toContain('NOT in order');
  });
});
