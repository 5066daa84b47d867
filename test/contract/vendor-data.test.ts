import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { vendorData } from '../../src/core/vendor-data.js';

const TOKEN = `hatchery${'0f'.repeat(32)}`;
const which = (name: string): string =>
  execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim();
const commandOf = (text: string): string[] => (parse(text) as { bootcmd: string[][] }).bootcmd[0]!;

describe('a guest that runs the vendor data', () => {
  let root: string;
  let server: Server;
  /** Statuses of the coming answers; 204 when there is none. */
  let answers: number[];
  let bodies: string[];

  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), 'hatchery-guest-'));
    for (const folder of ['bin', 'sys/class/dmi/id', 'sys/class/net/lo', 'sys/class/net/eth0'])
      mkdirSync(join(root, folder), { recursive: true });
    write('sys/class/dmi/id/product_serial', `${TOKEN}\n`);
    write('sys/class/net/eth0/address', '02:00:00:aa:bb:cc\n');
    for (const tool of ['sh', 'cat', 'curl', 'touch']) symlinkSync(which(tool), join(root, 'bin', tool));
    program('sleep', `echo "$1" >> ${root}/slept`);
    say(
      '1: eth0    inet 10.20.0.11/16 brd 10.20.255.255 scope global dynamic eth0\\       valid_lft 86368sec',
    );
    answers = [];
    bodies = [];
    server = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk: Buffer) => (body += chunk.toString()));
      request.on('end', () => {
        bodies.push(`${request.method} ${request.url} ${request.headers['content-type']} ${body}`);
        response.writeHead(answers.shift() ?? 204).end();
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });
  afterEach(async () => {
    await new Promise((resolve) => server.close(resolve));
    rmSync(root, { recursive: true, force: true });
  });

  const write = (path: string, text: string): void => writeFileSync(join(root, path), text);
  const program = (name: string, body: string): void =>
    writeFileSync(join(root, 'bin', name), `#!/bin/sh\n${body}\n`, { mode: 0o755 });
  const say = (...lines: string[]): void => {
    write('addresses', lines.map((line) => `${line}\n`).join(''));
    program('ip', `[ "$*" = '-o addr show scope global' ] && cat ${root}/addresses`);
  };
  const slept = (): string => spawnSync('cat', [join(root, 'slept')], { encoding: 'utf8' }).stdout;

  /** The very script, on this root; it works in the background, so its end is asked for by `wait`. */
  async function boot(): Promise<void> {
    const { port } = server.address() as AddressInfo;
    const script = commandOf(vendorData(`http://127.0.0.1:${port}`))[5]!.replaceAll('/sys/', `${root}/sys/`);
    const child = spawn(join(root, 'bin/sh'), ['-c', `${script}\nwait`], {
      env: { PATH: join(root, 'bin') },
    });
    await new Promise((resolve) => child.on('exit', resolve));
  }
  const call = (...addresses: object[]): string =>
    `POST /api/v1/phone-home application/json ${JSON.stringify({ token: TOKEN, addresses })}`;
  const own = { mac: '02:00:00:aa:bb:cc', address: '10.20.0.11' };

  it('tells each of its addresses with the card that has it, once', async () => {
    mkdirSync(join(root, 'sys/class/net/docker0'));
    write('sys/class/net/docker0/address', '02:42:00:00:00:01\n');
    say(
      '2: eth0    inet 10.20.0.11/16 brd 10.20.255.255 scope global dynamic eth0\\       valid_lft 86368sec',
      '2: eth0    inet6 2001:db8::5/64 scope global dynamic \\       valid_lft 86368sec',
      '3: docker0    inet 172.17.0.1/16 brd 172.17.255.255 scope global docker0\\       valid_lft forever',
    );
    await boot();
    expect(bodies).toEqual([
      call(
        own,
        { mac: own.mac, address: '2001:db8::5' },
        { mac: '02:42:00:00:00:01', address: '172.17.0.1' },
      ),
    ]);
    expect(slept()).toBe('');
  });

  it('does it with python3 where there is no curl', async () => {
    rmSync(join(root, 'bin/curl'));
    const python = execFileSync('python3', ['-c', 'import sys; print(sys.executable)'], { encoding: 'utf8' });
    symlinkSync(python.trim(), join(root, 'bin/python3'));
    answers = [503];
    await boot();
    expect(bodies).toEqual([call(own), call(own)]);
  });

  it('tries again, ever more slowly, and then keeps silent', async () => {
    answers = Array.from({ length: 20 }, () => 404);
    await boot();
    expect(slept().trim().split('\n')).toEqual(['1', '2', '4', '8', '16', '32', '64', '128', '256']);
    expect(bodies).toHaveLength(9);
  });

  it('says what it has when its network comes up late', async () => {
    say();
    program('sleep', `echo '2: eth0    inet 10.20.0.11/16 scope global eth0' > ${root}/addresses`);
    answers = [404];
    await boot();
    expect(bodies).toEqual([call(), call(own)]);
  });

  it('says nothing without a token of ours', async () => {
    write('sys/class/dmi/id/product_serial', 'Not Specified\n');
    await boot();
    rmSync(join(root, 'sys/class/dmi'), { recursive: true });
    await boot();
    expect(slept()).toBe('');
    expect(bodies).toEqual([]);
  });

  it('gives the token to nobody who looks at its processes', async () => {
    rmSync(join(root, 'bin/curl'));
    program('curl', `echo "$@" > ${root}/arguments; cat > ${root}/body`);
    await boot();
    expect(readFileSync(join(root, 'body'), 'utf8')).toContain(TOKEN);
    expect(readFileSync(join(root, 'arguments'), 'utf8')).not.toContain('hatchery0f');
  });
});
