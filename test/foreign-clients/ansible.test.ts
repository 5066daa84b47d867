import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
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

const SSH_KEY =
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7uO0Fy2bP4b2bT4iQ8q2Wk2m0y2mX7o6V9b2u5c1Xq a person@here';

interface PlayedTask {
  readonly task: { readonly name: string };
  readonly hosts: {
    readonly localhost: {
      readonly changed?: boolean;
      readonly failed?: boolean;
      readonly unreachable?: boolean;
      readonly msg?: string;
      readonly vmid?: number;
    };
  };
}

describe.skipIf(why !== '')(`Ansible's community.general.proxmox_kvm${why}`, () => {
  let context: ReturnType<typeof createContext>;
  let simulator: ProxmoxSimulator;
  let home: string;

  beforeEach(async () => {
    context = createContext({ timeScale: 0.002 });
    simulator = await startProxmoxSimulator(context);
    home = await mkdtemp(join(tmpdir(), 'hatchery-ansible-'));
  });
  afterEach(async () => {
    await simulator.stop();
    context.close();
    await rm(home, { recursive: true, force: true });
  });

  async function play(
    account: Record<string, string>,
  ): Promise<Map<string, PlayedTask['hosts']['localhost']>> {
    if ('missing' in clients) throw new Error(clients.missing);
    const variables = {
      ansible_python_interpreter: clients.python,
      api_host: new URL(simulator.endpoints[0]!).host,
      guest: 'one-guest',
      newid: 10_000,
      pool: 'hatchery-demo',
      ssh_key: SSH_KEY,
      ...account,
    };
    const playbook = join(import.meta.dirname, 'one_guest.yaml');
    const args = [clients.ansiblePlaybook, '-i', 'localhost,', '-e', JSON.stringify(variables), playbook];
    const { stdout } = await run(clients.python, args, {
      cwd: home,
      env: {
        ...clients.env,
        HOME: home,
        ANSIBLE_HOME: join(home, '.ansible'),
        ANSIBLE_REMOTE_TMP: join(home, 'tmp'),
        ANSIBLE_LOCALHOST_WARNING: 'false',
        ANSIBLE_STDOUT_CALLBACK: 'ansible.posix.json',
        ANSIBLE_RETRY_FILES_ENABLED: 'false',
        // As a person's own CA is made known to Python's requests.
        REQUESTS_CA_BUNDLE: simulator.caFile,
      },
      timeout: 120_000,
    }).catch((error: { stdout?: string; message: string }) => {
      if (error.stdout?.startsWith('{')) return { stdout: error.stdout };
      throw error;
    });
    const { plays } = JSON.parse(stdout) as { plays: { tasks: PlayedTask[] }[] };
    return new Map(
      plays.flatMap(({ tasks }) => tasks.map(({ task, hosts }) => [task.name, hosts.localhost])),
    );
  }

  function lifeInJournal(actor: string): unknown[] {
    return context.journal
      .read()
      .filter((line) => line.event === 'task-end' && line.effect && line.vmid === 10_000)
      .map((line) => [line.op, line.actor === actor, line.params?.['verdict']]);
  }

  it('clones, updates, starts, stops and deletes a guest with a token', async () => {
    const { id, secret } = simulator.token;
    const [api_user = '', api_token_id = ''] = id.split('!');
    const played = await play({ api_user, api_token_id, api_token_secret: secret });
    const outcomes = [...played].map(([name, { changed, failed, unreachable, msg }]) => [
      name,
      changed,
      failed || unreachable ? msg : '',
    ]);
    expect(outcomes).toEqual([
      ['clone', true, ''],
      ['clone again', false, ''],
      ['update', true, ''],
      ['start', true, ''],
      ['current', false, ''],
      ['stop', true, ''],
      ['delete', true, ''],
    ]);
    expect(played.get('clone again')).toMatchObject({ vmid: 10_000 });
    expect(played.get('current')?.msg).toMatch(/is running$/);
    expect(lifeInJournal(id)).toEqual([
      ['qemu.clone', true, 'OK'],
      ['qemu.start', true, 'OK'],
      ['qemu.shutdown', true, 'OK'],
      ['qemu.destroy', true, 'OK'],
    ]);
    const written = context.journal.read().find((line) => line.op === 'qemu.config.put' && line.effect);
    expect(written).toMatchObject({
      actor: id,
      vmid: 10_000,
      params: { cores: '4', memory: '4096', tags: 'course,lab', sshkeys: encodeURIComponent(SSH_KEY) },
    });
    expect(simulator.guest(10_000)).toBeUndefined();
  });
});
