import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';

const PROGRAM = join(import.meta.dirname, '..', '..', 'dist', 'cli', 'demo', 'main.js');

let state: string;
const demos: ChildProcess[] = [];

beforeAll(() => {
  state = mkdtempSync(join(tmpdir(), 'hatchery-demo-'));
  chmodSync(state, 0o711);
  // Fetched by the test run before us; a demo of its own would fetch it again.
  const fetched = join(inject('stateFolder'), 'redis-server');
  if (existsSync(fetched)) symlinkSync(fetched, join(state, 'redis-server'));
});

afterAll(async () => {
  for (const demo of demos) {
    if (demo.exitCode !== null || demo.signalCode !== null) continue;
    demo.kill('SIGTERM');
    await once(demo, 'exit');
  }
  rmSync(state, { recursive: true, force: true });
});

function startDemo(...args: string[]): ChildProcess {
  const demo = spawn(process.execPath, [PROGRAM, '--time-scale', '0.01', '--workers', '1', ...args], {
    env: { PATH: process.env['PATH'], HATCHERY_STATE_DIR: state, DATABASE_URL: 'postgres://not-this-one/' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  demos.push(demo);
  return demo;
}

/** Processes whose command or environment names the folder. */
function processesOf(folder: string): number[] {
  const mentions = (pid: string, file: string): boolean => {
    try {
      return readFileSync(`/proc/${pid}/${file}`, 'utf8').includes(folder);
    } catch {
      return false;
    }
  };
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid) && ['cmdline', 'environ'].some((file) => mentions(pid, file)))
    .map(Number);
}

/** The test's own limit ends the wait. */
async function untilNobodyWorksIn(folder: string): Promise<void> {
  while (processesOf(folder).length > 0) await sleep(50);
}

describe('the demo', () => {
  it('makes a class beside another demo, deletes it again and says so in JSON', async () => {
    const staying = startDemo('--students', '2');
    const welcome = await untilSaid(staying, 'Ctrl-C stops everything');
    expect(welcome).toMatch(/vm-\S+ +1\d{4} +pve\d +[0-9.]+ .*ready/);
    const { url, token } = JSON.parse(readFileSync(join(state, 'instances', '1', 'cli.json'), 'utf8')) as {
      url: string;
      token: string;
    };
    const batch = await fetch(`${url}/api/v1/batches/class-l3-info`, {
      headers: { authorization: `Bearer ${token}` },
    });
    expect(await batch.json()).toMatchObject({ state: 'ready', counts: { total: 2, ready: 2 } });

    const second = startDemo('--exit', '--json', '--delete', '--students', '3');
    const [output, [code]] = await Promise.all([text(second.stdout!), once(second, 'exit')]);
    expect(JSON.parse(output)).toEqual({
      batch: 'class-l3-info',
      machines: 3,
      ready: 3,
      failed: 0,
      seconds: expect.any(Number),
      firstReadySeconds: expect.any(Number),
      medianReadySeconds: expect.any(Number),
      timeScale: 0.01,
      proxmoxCallsPerMachine: expect.any(Number),
      winrmCommandsPerMachine: expect.any(Number),
      collisions: 0,
      left: 0,
      journal: join(state, 'instances', '2', 'journal.ndjson'),
    });
    expect(code).toBe(0);
    await untilNobodyWorksIn(join(state, 'instances', '2'));

    expect(processesOf(join(state, 'instances', '1')).length).toBeGreaterThan(4);
    staying.kill('SIGKILL');
    await once(staying, 'exit');
    await untilNobodyWorksIn(join(state, 'instances', '1'));
  });

  it('refuses an option that it does not know, in one sentence', async () => {
    const demo = startDemo('--studnets', '3');
    const [said, [code]] = await Promise.all([text(demo.stderr!), once(demo, 'exit')]);
    expect(said).toContain("Unknown option '--studnets'");
    expect(code).toBe(2);
  });
});

async function untilSaid(demo: ChildProcess, words: string): Promise<string> {
  let said = '';
  let complaints = '';
  demo.stderr!.on('data', (piece: Buffer) => (complaints += piece.toString()));
  for await (const piece of demo.stdout!) {
    said += String(piece);
    if (said.includes(words)) return said;
  }
  throw new Error(`the demo ended: ${complaints}`);
}
