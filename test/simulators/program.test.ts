import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseJournal } from '../../src/simulators/journal.js';

const PROGRAM = join(import.meta.dirname, '../../dist/simulators/program.js');

/** The simulators as a program of their own, from the build that `npm test` makes. */
describe('the simulator program', () => {
  let dir: string;
  let children: ChildProcess[];
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'simulate-'));
    children = [];
  });
  afterEach(() => {
    for (const child of children) child.kill('SIGKILL');
    rmSync(dir, { recursive: true });
  });

  const run = (...args: string[]): ChildProcess => {
    const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
    children.push(child);
    return child;
  };
  const firstLine = async (child: ChildProcess): Promise<Record<string, unknown>> => {
    const [line] = (await once(createInterface(child.stdout!), 'line')) as [string];
    return JSON.parse(line) as Record<string, unknown>;
  };

  it('says in one line how to reach all of them, and ends with its parent', async () => {
    const child = run('all', '--journal', join(dir, 'journal'), '--time-scale', '0.05');
    const line = await firstLine(child);
    expect(line).toMatchObject({
      simulator: 'all',
      tokenId: 'hatchery@pve!demo',
      journal: join(dir, 'journal'),
    });
    expect(line['endpoints']).toHaveLength(3);
    const each = line['simulators'] as { simulator: string; endpoints: string[] }[];
    expect(each.map(({ simulator }) => simulator)).toEqual(['proxmox', 'winrm', 'guacamole']);
    expect(readFileSync(String(line['caFile']), 'utf8')).toContain('BEGIN CERTIFICATE');
    child.stdin!.end();
    expect(await once(child, 'exit')).toEqual([0, null]);
    expect(existsSync(String(line['caFile']))).toBe(false);
    const [world] = parseJournal(readFileSync(join(dir, 'journal'), 'utf8'));
    expect(world).toMatchObject({ event: 'world', params: { timeScale: 0.05 } });
  });

  it('keeps its world, certificates and tokens in the state file', async () => {
    const args = ['proxmox', '--state', join(dir, 'state.json')];
    const first = run(...args);
    const before = await firstLine(first);
    first.kill('SIGTERM');
    expect(await once(first, 'exit')).toEqual([0, null]);
    const second = run(...args);
    const after = await firstLine(second);
    expect(after['fingerprint']).toBe(before['fingerprint']);
    expect(after['tokenSecret']).toBe(before['tokenSecret']);
  });

  it('stands before a simulator as a transport, in its journal, and reads its rules again when it is told to', async () => {
    const journal = join(dir, 'journal');
    const server = await firstLine(run('guacamole', '--journal', journal));
    const [to] = server['endpoints'] as string[];
    const faults = join(dir, 'faults.yaml');
    writeFileSync(faults, '[]');
    const options = [
      '--ca',
      String(server['caFile']),
      '--faults',
      faults,
      '--journal',
      journal,
      '--seed',
      '7',
    ];
    const transport = run('transport', '--to', to!, ...options);
    const line = await firstLine(transport);
    expect(line).toEqual({
      simulator: 'transport',
      endpoints: [expect.stringMatching(/^https:\/\/127\.0\.0\.1:\d+$/)],
      caFile: expect.any(String) as string,
      fingerprint: expect.stringMatching(/^([0-9A-F]{2}:){31}[0-9A-F]{2}$/) as string,
      journal,
    });
    const [endpoint] = line['endpoints'] as string[];
    const ca = readFileSync(String(line['caFile']), 'utf8');
    const ask = (): Promise<boolean> =>
      new Promise((resolve) => {
        const request = get(endpoint!, { ca, agent: false }, (answer) => {
          answer.resume();
          resolve(true);
        });
        request.on('error', () => resolve(false));
      });
    expect(await ask()).toBe(true);
    writeFileSync(faults, "- { id: down, match: { sim: http, op: 'GET *' }, effect: explode }\n");
    transport.kill('SIGHUP');
    await once(transport.stderr!, 'data');
    expect(await ask()).toBe(true);
    writeFileSync(faults, "- { id: down, match: { sim: http, op: 'GET *' }, effect: reset }\n");
    transport.kill('SIGHUP');
    while (await ask());
    transport.kill('SIGTERM');
    expect(await once(transport, 'exit')).toEqual([0, null]);
    const fired = parseJournal(readFileSync(journal, 'utf8')).filter(({ event }) => event === 'fault');
    expect(fired[0]).toMatchObject({ sim: 'http', op: 'GET /', fault: 'down', actor: 'simulator' });
  });

  it('refuses what it does not understand, in a sentence', async () => {
    const refusal = async (...args: string[]): Promise<string> => {
      const child = run(...args);
      let text = '';
      child.stderr!.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      const [code] = (await once(child, 'close')) as [number];
      expect(code).toBe(2);
      return text;
    };
    expect(await refusal('ganeti')).toContain('write one of proxmox, winrm, guacamole, all, transport');
    expect(await refusal('transport')).toContain('write --to redis://host:port');
    const journal = join(dir, 'none');
    expect(await refusal('transport', '--to', 'redis://localhost', '--journal', journal)).toContain(
      'Unable to join the journal',
    );
    expect(await refusal('proxmox', '--time-scale', 'fast')).toContain('--time-scale must be a number from');
    writeFileSync(join(dir, 'faults.yaml'), '- { id: x, effect: explode }\n');
    expect(await refusal('proxmox', '--faults', join(dir, 'faults.yaml'))).toContain(
      'Unable to read the fault rules',
    );
  });
});
