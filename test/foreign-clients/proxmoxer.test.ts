import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, inject, it } from 'vitest';
import { createContext } from '../../src/simulators/create-context.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';
import { debianClients } from '../support/debian-clients.js';

const run = promisify(execFile);
const clients = await debianClients(inject('stateFolder'));
const why = 'missing' in clients ? ` (skipped: ${clients.missing})` : '';

describe.skipIf(why !== '')(`Debian's python3-proxmoxer${why}`, () => {
  let context: ReturnType<typeof createContext>;
  let simulator: ProxmoxSimulator;

  beforeEach(async () => {
    context = createContext({ timeScale: 0.002 });
    simulator = await startProxmoxSimulator(context);
  });
  afterEach(async () => {
    await simulator.stop();
    context.close();
  });

  async function tour(account: Record<string, string>): Promise<Record<string, unknown>> {
    if ('missing' in clients) throw new Error(clients.missing);
    const { stdout } = await run(clients.python, [join(import.meta.dirname, 'proxmoxer_tour.py')], {
      env: {
        ...clients.env,
        ACCOUNT: JSON.stringify(account),
        PVE_HOST: new URL(simulator.endpoints[0]!).host,
        PVE_CA: simulator.caFile,
        NEWID: '10000',
        POOL: 'hatchery-demo',
      },
      timeout: 60_000,
    });
    return JSON.parse(stdout) as Record<string, unknown>;
  }

  function lifeInJournal(actor: string): unknown[] {
    return context.journal
      .read()
      .filter((line) => line.event === 'task-end' && line.effect && line.vmid === 10_000)
      .map((line) => [line.op, line.actor === actor, line.params?.['verdict']]);
  }

  async function leadsGuest(actor: string, account: Record<string, string>): Promise<void> {
    expect(await tour(account)).toMatchObject({
      release: '9.1',
      nodes: [
        ['pve1', 'online'],
        ['pve2', 'online'],
        ['pve3', 'online'],
      ],
      taken: { status: 400, text: 'Parameter verification failed.' },
      unknown: { status: 500, text: "Configuration file 'nodes/pve1/qemu-server/10000.conf' does not exist" },
      clone: 'OK',
      members: [10_000],
      config: { name: 'tour', cores: '4', memory: '4096', ciuser: 'guest', tags: 'tour' },
      resize: 'OK',
      disk: expect.stringMatching(/size=10G/),
      snapshot: 'OK',
      snapshots: ['current', 'fresh'],
      unsnapshot: 'OK',
      start: 'OK',
      status: 'running',
      destroyRunning: { status: 500, text: 'VM 10000 is running - destroy failed' },
      stop: 'OK',
      delete: 'OK',
    });
    expect(lifeInJournal(actor)).toEqual([
      ['qemu.clone', true, 'OK'],
      ['qemu.resize', true, 'OK'],
      ['qemu.snapshot', true, 'OK'],
      ['qemu.snapshot.delete', true, 'OK'],
      ['qemu.start', true, 'OK'],
      ['qemu.stop', true, 'OK'],
      ['qemu.destroy', true, 'OK'],
    ]);
    expect(simulator.guest(10_000)).toBeUndefined();
  }

  it('leads a guest from clone to delete with a token', async () => {
    const { id, secret } = simulator.token;
    const [user = '', name = ''] = id.split('!');
    await leadsGuest(id, { user, token_name: name, token_value: secret });
  });

  it('does the same with the ticket and the CSRF token that a password gives', async () => {
    const { username, password } = simulator;
    await leadsGuest(username, { user: username, password });
    const signIns = context.journal.read().filter((line) => line.op === 'access.ticket');
    expect(signIns).toMatchObject([{ status: 200 }]);
  });

  it('is refused with a wrong password', async () => {
    await expect(tour({ user: simulator.username, password: 'wrong' })).rejects.toThrow(
      "Couldn't authenticate user: root@pam",
    );
    expect(context.journal.read().filter((line) => line.effect)).toEqual([]);
  });
});
