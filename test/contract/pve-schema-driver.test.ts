import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { clusterSchema } from '../../src/core/definitions.js';
import { describeWithMark, type Mark } from '../../src/core/mark.js';
import { ProxmoxDriver } from '../../src/drivers/proxmox/proxmox.driver.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import { plainCall } from '../../src/ports/call.js';
import type {
  CloneRequest,
  ContainerSettings,
  CreateRequest,
  GuestSettings,
  TaskRef,
} from '../../src/ports/hypervisor.js';
import { Secret } from '../../src/ports/secrets.js';
import { createContext } from '../../src/simulators/create-context.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';
import { aUse } from '../support/intended-use.js';
import { problemOfValue, propertyNamed, PveSchema } from '../support/pve-schema.js';
import { RecordingProxy, type RecordedRequest } from '../support/recording-proxy.js';

const SCALE = 0.01;
const VENDOR_DATA = 'local:snippets/hatchery.yaml';
const ARCHIVE = 'local:vztmpl/debian-12-standard_12.12-1_amd64.tar.zst';
const DEPLOYMENT = '0190aaaa-0000-7000-8000-000000000001';
const KEY = `ssh-ed25519 ${Buffer.concat([
  Buffer.from([0, 0, 0, 11]),
  Buffer.from('ssh-ed25519'),
  Buffer.from([0, 0, 0, 32]),
  Buffer.alloc(32, 7),
]).toString('base64')} ada@lab; a+b`;

/** Every call that the driver knows. A new one belongs here, and into the scenario below. */
const CALLS = [
  'DELETE /nodes/{node}/lxc/{vmid}',
  'DELETE /nodes/{node}/qemu/{vmid}',
  'GET /access/permissions',
  'GET /cluster/nextid',
  'GET /cluster/resources',
  'GET /cluster/status',
  'GET /nodes/{node}/certificates/info',
  'GET /nodes/{node}/lxc/{vmid}/config',
  'GET /nodes/{node}/lxc/{vmid}/interfaces',
  'GET /nodes/{node}/lxc/{vmid}/status/current',
  'GET /nodes/{node}/qemu/{vmid}/agent/network-get-interfaces',
  'GET /nodes/{node}/qemu/{vmid}/config',
  'GET /nodes/{node}/qemu/{vmid}/status/current',
  'GET /nodes/{node}/status',
  'GET /nodes/{node}/storage',
  'GET /nodes/{node}/storage/{storage}/content',
  'GET /nodes/{node}/tasks',
  'GET /nodes/{node}/tasks/{upid}/log',
  'GET /nodes/{node}/tasks/{upid}/status',
  'GET /nodes/{node}/time',
  'GET /pools',
  'GET /version',
  'POST /access/ticket',
  'POST /nodes/{node}/lxc',
  'POST /nodes/{node}/lxc/{vmid}/clone',
  'POST /nodes/{node}/lxc/{vmid}/status/start',
  'POST /nodes/{node}/lxc/{vmid}/status/stop',
  'POST /nodes/{node}/qemu/{vmid}/clone',
  'POST /nodes/{node}/qemu/{vmid}/status/start',
  'POST /nodes/{node}/qemu/{vmid}/status/stop',
  'PUT /nodes/{node}/lxc/{vmid}/config',
  'PUT /nodes/{node}/lxc/{vmid}/resize',
  'PUT /nodes/{node}/qemu/{vmid}/config',
  'PUT /nodes/{node}/qemu/{vmid}/resize',
];

PveSchema.compare('what the driver sends', (schema, version) => {
  const recorded: RecordedRequest[] = [];
  /** What `cluster record` sends, without what it sends to see it refused. */
  const recordings: RecordedRequest[] = [];
  let kept = recorded;
  let context: ReturnType<typeof createContext>;
  let simulator: ProxmoxSimulator;
  let proxies: RecordingProxy[] = [];

  beforeAll(async () => {
    context = createContext({
      timeScale: SCALE,
      world: {
        version,
        files: [VENDOR_DATA, ARCHIVE].map((volid) => ({ volid, node: 'pve1' })),
        users: [{ id: 'ada@pve', password: 'p', acl: [{ path: '/', privileges: ['*'] }] }],
      },
    });
    simulator = await startProxmoxSimulator(context);
    proxies = await Promise.all(
      context.world.nodes.map(({ name }, index) =>
        RecordingProxy.before(
          simulator.endpoints[index]!,
          context.world.certificates.get(name)!,
          context.authority.caPem,
          (request) => kept.push(request),
        ),
      ),
    );
    await everything(context, aDriver(), aDriver());
    await signedIn(
      aDriver({ token: undefined, account: { username: 'ada@pve', password: { env: 'NOT_READ' } } }, 'p'),
    );
    kept = recordings;
    const recorder = aDriver();
    await recorder.record(plainCall());
    recorder.close();
  });
  afterAll(async () => {
    await Promise.all(proxies.map((proxy) => proxy.stop()));
    await simulator.stop();
    context.close();
  });

  const aDriver = (over: Record<string, unknown> = {}, secret = simulator.token.secret): ProxmoxDriver =>
    new ProxmoxDriver({
      definition: clusterSchema.parse({
        name: 'main',
        kind: 'proxmox',
        endpoints: proxies.map(({ url }) => url),
        trust: { caFile: context.caFile },
        token: { id: simulator.token.id, secret: { env: 'NOT_READ' } },
        pool: 'hatchery-demo',
        vmids: { from: 10_000, to: 19_999 },
        vendorData: VENDOR_DATA,
        ...over,
      }),
      secret: new Secret(secret),
      deployment: DEPLOYMENT,
      clock: systemClock,
      remoteTimeScale: SCALE,
      log: { warn: () => undefined },
    });

  it('is every call that the driver knows', () => {
    const seen = recorded.map(({ method, path }) => `${method} ${placeOf(schema, path)}`);
    expect([...new Set(seen)].sort()).toEqual(CALLS);
  });

  it('is allowed by it, parameter by parameter', () => {
    expect([...new Set(recorded.flatMap((request) => problemsOf(schema, request)))]).toEqual([]);
  });

  it('is allowed by it where it records a cluster', () => {
    const accepted = recordings.filter(({ status }) => status === 200);
    expect(new Set(accepted.map(({ path }) => placeOf(schema, path))).size).toBeGreaterThan(15);
    expect([...new Set(accepted.flatMap((request) => problemsOf(schema, request)))]).toEqual([]);
    expect(recordings.filter(({ method }) => method !== 'GET')).toEqual([]);
  });
});

function placeOf(schema: PveSchema, path: string): string {
  return schema.locate(path.replace(/^\/api2\/json/, ''))?.path ?? path;
}

function problemsOf(schema: PveSchema, request: RecordedRequest): string[] {
  const { method, query, body, contentType, authorization } = request;
  const found = schema.locate(request.path.replace(/^\/api2\/json/, ''));
  const call = found && schema.call(method, found.path);
  if (!found || !call) return [`${method} ${request.path} is no call`];
  const place = `${method} ${found.path}`;
  const problems: string[] = [];
  if ((method === 'GET' || method === 'DELETE') && body !== '') problems.push(`${place} has a body`);
  if (body !== '' && contentType !== 'application/x-www-form-urlencoded')
    problems.push(`${place} is no form but ${contentType ?? 'nothing'}`);
  if (body.includes(';')) problems.push(`${place} has a bare semicolon`);
  if (authorization?.startsWith('PVEAPIToken') && !call.allowtoken)
    problems.push(`${place} is not open to tokens`);
  const { properties } = call.parameters;
  const given = new Map([
    ...Object.entries(found.values),
    ...new URLSearchParams(query),
    ...new URLSearchParams(body),
  ]);
  for (const [name, value] of given) {
    const property = propertyNamed(properties, name);
    const problem = property ? problemOfValue(property, value) : 'is not in the schema';
    if (problem !== undefined) problems.push(`${place} ${name}: ${JSON.stringify(value)} ${problem}`);
  }
  for (const [name, { optional }] of Object.entries(properties))
    if (!optional && !given.has(name)) problems.push(`${place} ${name} is missing`);
  return problems;
}

/** Everything that the driver can do. */
async function everything(
  context: ReturnType<typeof createContext>,
  driver: ProxmoxDriver,
  otherProcess: ProxmoxDriver,
): Promise<void> {
  const call = plainCall();
  const done = async (task: TaskRef | undefined): Promise<void> => {
    if (task) expect(await driver.followTask(task, call, () => undefined)).toMatchObject({ verdict: 'ok' });
  };
  // Only who may allocate a whole storage is shown disks without a guest, and only then they are asked for.
  for (const [name, privileges] of context.world.roles)
    if (privileges.includes('Datastore.AllocateSpace'))
      context.world.roles.set(name, [...privileges, 'Datastore.Allocate']);
  await driver.check(aUse({ phonesHome: true }), call);
  await driver.standing(call);
  await driver.inventory();
  const { vmid, node, digest, storageShared } = (
    await driver.templates('qemu', ['debian-12-xfce'], call)
  )[0]!;
  const order = (mark: Mark, over: Partial<CloneRequest> = {}): CloneRequest => ({
    kind: 'qemu',
    template: { vmid, node, digest, storageShared },
    vmid: mark.vmid,
    name: `vm-${mark.vmid}`,
    node: 'pve1',
    mode: 'linked',
    storage: undefined,
    description: describeWithMark('Machine of "Zoë"; 100% hers & nobody else’s', mark),
    ...over,
  });
  const mark = aMark(12_000);
  const since = Date.now();
  expect(await driver.lookupVmid(mark.vmid, call)).toEqual({ answer: 'free' });
  await done(await driver.startClone(order(mark), call));
  await otherProcess.traceClone(order(mark), mark, since, call);
  await driver.readMark(mark.vmid, call);
  const settings: GuestSettings = {
    cores: 4,
    memoryMiB: 4096,
    bridge: 'vmbr0',
    vlan: 30,
    mac: '02:00:00:00:00:01',
    ciUser: 'ada',
    ciPassword: 'correct horse; battery+staple & 100%',
    sshKeys: [KEY, KEY],
    phoneHomeToken: new Secret(`hatchery${'0f'.repeat(32)}`),
  };
  await driver.configure(mark, settings, call);
  context.world.dhcp.allow.set(settings.mac, { description: 'test' });
  await driver.configure(mark, { ...settings, vlan: undefined, ciPassword: undefined, sshKeys: [] }, call);
  await done(await driver.startResize(mark, 'scsi0', 20, call));
  await done(await driver.startGuest(mark, call));
  while ((await driver.guestAddress(mark, settings.mac, call)) === undefined);
  const full = aMark(12_001);
  await done(await driver.startClone(order(full, { mode: 'full', storage: 'ceph', node: 'pve2' }), call));
  context.faults.add({
    id: 'broken',
    match: { op: 'qemu.clone', vmid: 12_002 },
    when: 'during',
    effect: 'task-error',
    value: 'clone failed: interrupted by signal',
  });
  const lost = aMark(12_002);
  const failed = await driver.followTask(await driver.startClone(order(lost), call), call);
  expect(failed).toMatchObject({ verdict: 'error' });
  await driver.traceClone(order(lost), lost, since, call);
  const forgotten = 'UPID:pve1:00000FFF:00000001:60000000:qmclone:9000:root@pam:';
  expect(await driver.followTask({ id: forgotten }, call)).toMatchObject({ verdict: 'unknown' });
  await driver.destroyOwn(mark, { incarnations: [], deletingRun: randomUUID() }, call);
  await containers(context, driver, otherProcess, done);
  driver.close();
  otherProcess.close();
}

async function containers(
  context: ReturnType<typeof createContext>,
  driver: ProxmoxDriver,
  otherProcess: ProxmoxDriver,
  done: (task: TaskRef | undefined) => Promise<void>,
): Promise<void> {
  const call = plainCall();
  const since = Date.now();
  const settings: ContainerSettings = {
    cores: 4,
    memoryMiB: 12_288,
    swapMiB: 512,
    nesting: true,
    bridge: 'vmbr0',
    vlan: 30,
    mac: '02:00:00:00:00:02',
  };
  context.world.dhcp.allow.set(settings.mac, { description: 'test' });
  const unpacked = aMark(12_020);
  const [archive] = await driver.archives('debian-12-standard', call);
  const create: CreateRequest = {
    archive: archive!.volume,
    vmid: unpacked.vmid,
    name: 'ct-12020',
    node: archive!.node,
    storage: 'ceph',
    diskGiB: 10,
    description: describeWithMark('Container of "Zoë"; 100% hers & nobody else’s', unpacked),
    settings,
    password: new Secret('correct horse; battery+staple & 100%'),
    sshKeys: [KEY, KEY],
  };
  await done(await driver.startCreate(create, call));
  expect(await otherProcess.traceCreate(create, unpacked, since, call)).toMatchObject({ found: 'done' });
  await done(await driver.startGuest(unpacked, call));
  expect(await driver.startGuest(unpacked, call)).toBeUndefined();
  while ((await driver.guestAddress(unpacked, settings.mac, call)) === undefined);
  const here = { incarnations: [settings.mac], deletingRun: randomUUID() };
  expect(await driver.destroyOwn(unpacked, here, call)).toEqual({ existed: true });
  const cloned = aMark(12_021);
  const [template] = await driver.templates('lxc', ['debian-12-desktop-lxc'], call);
  const clone: CloneRequest = {
    kind: 'lxc',
    template: template!,
    vmid: cloned.vmid,
    name: 'ct-12021',
    node: template!.node,
    mode: 'linked',
    storage: undefined,
    description: describeWithMark('x', cloned),
  };
  await done(await driver.startClone(clone, call));
  expect(await otherProcess.traceClone(clone, cloned, since, call)).toMatchObject({ found: 'done' });
  await driver.configureContainer(cloned, settings, call);
  await driver.configureContainer(cloned, { ...settings, vlan: undefined }, call);
  await done(await driver.startResize(cloned, 'rootfs', 50, call));
  const other = { incarnations: ['02:00:00:00:00:ff'], deletingRun: randomUUID() };
  await expect(driver.destroyOwn(cloned, other, call)).rejects.toMatchObject({ code: 'foreign-guest' });
  await driver.destroyOwn(cloned, { incarnations: [settings.mac], deletingRun: randomUUID() }, call);
}

/** With a ticket instead of a token. */
async function signedIn(driver: ProxmoxDriver): Promise<void> {
  const { vmid, node, digest, storageShared } = (
    await driver.templates('qemu', ['debian-12-xfce'], plainCall())
  )[0]!;
  const mark = aMark(12_010);
  const order = {
    kind: 'qemu',
    template: { vmid, node, digest, storageShared },
    vmid: mark.vmid,
    name: 'x',
    node,
    mode: 'linked',
  } as const;
  const task = await driver.startClone(
    { ...order, storage: undefined, description: describeWithMark('x', mark) },
    plainCall(),
  );
  expect(await driver.followTask(task, plainCall())).toMatchObject({ verdict: 'ok' });
  driver.close();
}

function aMark(vmid: number): Mark {
  return {
    deployment: DEPLOYMENT,
    machine: randomUUID(),
    run: randomUUID(),
    step: 'clone-template',
    vmid,
    attempt: 1,
  };
}
