import { addToken } from '../../src/simulators/build-access.js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GuacamoleDriver } from '../../src/drivers/guacamole/guacamole.driver.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import { WindowsDhcpDriver } from '../../src/drivers/winrm/windows-dhcp.driver.js';
import { plainCall } from '../../src/ports/call.js';
import { Secret } from '../../src/ports/secrets.js';
import { checkJournal, type CheckOptions } from '../../src/simulators/journal/check.js';
import type { JournalVerdict } from '../../src/simulators/journal/verdict.js';
import { SIMULATOR_NAMES } from '../../src/simulators/names.js';
import { startSimulators, type Simulators } from '../../src/simulators/simulators.js';
import { WireClient } from './proxmox-client.js';

const TIME_SCALE = 0.002;
const VMID = 10_020;
const MAC = '02:00:00:00:00:20';
const MARK = `[hatchery v1 deployment=a0000000-0000-4000-8000-000000000001 machine=b0000000-0000-4000-8000-000000000001 run=c0000000-0000-4000-8000-000000000001 step=clone vmid=${VMID} attempt=1]`;
const FILTER = { mac: MAC, description: 'vm-alice' };

let simulators: Required<Simulators>;
let proxmox: WireClient;
let admin: WireClient;
let dhcp: WindowsDhcpDriver;
let gateway: GuacamoleDriver;

beforeEach(async () => {
  simulators = (await startSimulators({
    which: SIMULATOR_NAMES,
    timeScale: TIME_SCALE,
  })) as Required<Simulators>;
  const { context, winrm, guacamole } = simulators;
  const service = (
    kind: 'windows-dhcp' | 'guacamole',
    { endpoint, username, password }: { endpoint: string; username: string; password: string },
  ) => ({
    definition: {
      name: kind,
      kind,
      endpoint,
      trust: { caFile: context.caFile },
      username,
      password: { env: 'UNUSED' },
      maxShells: 5,
    },
    password: new Secret(password),
    clock: systemClock,
    remoteTimeScale: TIME_SCALE,
  });
  proxmox = new WireClient(simulators.proxmox);
  admin = new WireClient(simulators.proxmox, simulators.proxmox.rootToken);
  dhcp = new WindowsDhcpDriver(service('windows-dhcp', winrm));
  gateway = new GuacamoleDriver(service('guacamole', guacamole));
});

afterEach(async () => {
  proxmox.close();
  admin.close();
  await gateway.close();
  await simulators.stop();
});

const check = (options?: CheckOptions): Promise<JournalVerdict> =>
  checkJournal(simulators.context.journal.file, options);

async function makeMachine(): Promise<void> {
  await dhcp.allow([FILTER], plainCall());
  const pool = 'hatchery-demo';
  const cloned = await proxmox.task(
    await proxmox.post('/nodes/pve1/qemu/9000/clone', {
      newid: VMID,
      name: 'vm-alice',
      pool,
      description: MARK,
    }),
  );
  expect(cloned.exit).toBe('OK');
  const written = await proxmox.put(`/nodes/pve1/qemu/${VMID}/config`, {
    net0: `virtio=${MAC},bridge=vmbr0`,
  });
  expect(written.status).toBe(200);
  expect((await proxmox.task(await proxmox.post(`/nodes/pve1/qemu/${VMID}/status/start`))).exit).toBe('OK');
  const hostname = simulators.proxmox.guest(VMID)?.address ?? '';
  const group = await gateway.ensureGroup({ name: 'class' }, plainCall());
  await gateway.ensureUser(
    { login: 'alice', fullName: 'Alice', email: undefined, password: undefined, mark: 'hatchery d' },
    plainCall(),
  );
  const connection = await gateway.ensureConnection(
    {
      groupId: group.id,
      name: 'vm-alice',
      protocol: 'ssh',
      hostname,
      port: 22,
      parameters: {},
      mark: 'hatchery d m',
    },
    plainCall(),
  );
  await gateway.grant('alice', connection.id, group.id, plainCall());
}

async function removeMachine(): Promise<void> {
  const group = await gateway.ensureGroup({ name: 'class' }, plainCall());
  const connection = await gateway.findConnection(group.id, 'vm-alice', plainCall());
  await gateway.revoke('alice', connection?.id ?? '', group.id, plainCall());
  await gateway.removeConnection(group.id, 'vm-alice', ({ mark }) => mark === 'hatchery d m', plainCall());
  await gateway.removeUser('alice', 'hatchery d', plainCall());
  await gateway.removeGroup('class', plainCall());
  await proxmox.task(await proxmox.post(`/nodes/pve1/qemu/${VMID}/status/stop`));
  expect((await proxmox.task(await proxmox.delete(`/nodes/pve1/qemu/${VMID}?purge=1`))).exit).toBe('OK');
  await dhcp.disallow([FILTER], plainCall());
}

describe('the journal that the simulators write', () => {
  it('is in order after a machine was made whole, and again after it was removed', async () => {
    await makeMachine();
    const made = await check();
    expect(made.findings).toEqual([]);
    expect(made).toMatchObject({ ok: true, missing: [], left: 7 });
    expect(made.counts).toMatchObject({
      guestsCreated: 1,
      guestsStarted: 1,
      filtersAdded: 1,
      connectionsCreated: 1,
      permissionsAdded: 2,
    });
    await removeMachine();
    const removed = await check({ expectNothingLeft: true });
    expect(removed.findings).toEqual([]);
    expect(removed).toMatchObject({ ok: true, left: 0 });
  });

  it('shows what is missing when the filter went away', async () => {
    await makeMachine();
    await dhcp.disallow([FILTER], plainCall());
    expect((await check()).missing).toEqual([{ machine: 'vm-alice', vmid: VMID, what: 'filter' }]);
  });

  it('shows a write to a guest that somebody put in our reach', async () => {
    await makeMachine();
    const { secret } = simulators.proxmox.rootToken;
    // The token of another deployment that has all rights: nothing but the ledger can tell that the guest is not its own.
    addToken(simulators.world, {
      id: 'hatchery@pve!lyon',
      secret,
      acl: [{ path: '/', privileges: ['*'] }],
    });
    const other = new WireClient(simulators.proxmox, { id: 'hatchery@pve!lyon', secret });
    await other.task(await other.post(`/nodes/pve1/qemu/${VMID}/status/stop`));
    other.close();
    const verdict = await check();
    expect(verdict).toMatchObject({ ok: false, foreignWrites: 1 });
  });

  it('lets an administrator do anything', async () => {
    await makeMachine();
    await admin.task(await admin.post(`/nodes/pve3/qemu/104/status/stop`));
    expect((await check()).foreignWrites).toBe(0);
  });
});
