import { createHmac, randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';
import { Agent, request } from 'node:https';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createContext } from '../../src/simulators/create-context.js';
import { startWinrmSimulator, type WinrmSimulator } from '../../src/simulators/winrm/winrm-simulator.js';

const md4 = createRequire(import.meta.url)('js-md4') as {
  create(): { update(bytes: Uint8Array): { array(): number[] } };
};
const SHELL = 'http://schemas.microsoft.com/wbem/wsman/1/windows/shell';
const TRANSFER = 'http://schemas.xmlsoap.org/ws/2004/09/transfer';
const MAC = '02-11-22-33-44-55';

interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: string;
}

let context: ReturnType<typeof createContext>;
let simulator: WinrmSimulator;
let agent: Agent;

beforeEach(async () => {
  context = createContext({ timeScale: 0.001 });
  simulator = await startWinrmSimulator(context, { maxShellsPerUser: 3, maxOperationsPerUser: 2 });
  agent = new Agent({ keepAlive: true, maxSockets: 1, ca: simulator.caPem });
});

afterEach(async () => {
  agent.destroy();
  await simulator.stop();
  context.close();
});

function post(
  body: string,
  authorization?: string,
  type = 'application/soap+xml;charset=UTF-8',
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(
      `${simulator.endpoint}/wsman`,
      {
        method: 'POST',
        agent,
        headers: { 'content-type': type, ...(authorization === undefined ? {} : { authorization }) },
      },
      (incoming) => {
        const chunks: Buffer[] = [];
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
        incoming.on('end', () =>
          resolve({
            status: incoming.statusCode ?? 0,
            headers: incoming.headers,
            body: Buffer.concat(chunks).toString('utf8'),
          }),
        );
      },
    );
    sent.on('error', reject);
    sent.end(body);
  });
}

const basic = (): string =>
  `Basic ${Buffer.from(`${simulator.username}:${simulator.password}`).toString('base64')}`;

function envelope(action: string, body: string, more: { shellId?: string; timeout?: string } = {}): string {
  const selector =
    more.shellId === undefined
      ? ''
      : `<w:SelectorSet><w:Selector Name="ShellId">${more.shellId}</w:Selector></w:SelectorSet>`;
  return `<?xml version="1.0"?><env:Envelope xmlns:env="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" xmlns:rsp="${SHELL}"><env:Header><a:To>https://x/wsman</a:To><a:MessageID>uuid:m-1</a:MessageID><w:OperationTimeout>${more.timeout ?? 'PT20S'}</w:OperationTimeout><w:ResourceURI>${SHELL}/cmd</w:ResourceURI><a:Action>${action}</a:Action>${selector}</env:Header><env:Body>${body}</env:Body></env:Envelope>`;
}

const first = (answer: Answer, pattern: RegExp): string => pattern.exec(answer.body)?.[1] ?? '';
const faultCode = (answer: Answer): string => first(answer, /WSManFault [^>]*Code="(\d+)"/);

async function openShell(idle = ''): Promise<string> {
  const answer = await post(
    envelope(
      `${TRANSFER}/Create`,
      `<rsp:Shell>${idle}<rsp:InputStreams>stdin</rsp:InputStreams></rsp:Shell>`,
    ),
    basic(),
  );
  expect(answer.status).toBe(200);
  return first(answer, /Name="ShellId">([^<]+)</);
}

const encoded = (script: string): string => Buffer.from(script, 'utf16le').toString('base64');

async function start(shellId: string, script: string): Promise<string> {
  const line = `<rsp:CommandLine><rsp:Command>powershell.exe</rsp:Command><rsp:Arguments>-NoProfile -EncodedCommand ${encoded(script)}</rsp:Arguments></rsp:CommandLine>`;
  return first(
    await post(envelope(`${SHELL}/Command`, line, { shellId }), basic()),
    /<rsp:CommandId>([^<]+)</,
  );
}

async function send(shellId: string, commandId: string, input: unknown): Promise<Answer> {
  const line = Buffer.from(`${Buffer.from(JSON.stringify(input)).toString('base64')}\n`).toString('base64');
  return post(
    envelope(
      `${SHELL}/Send`,
      `<rsp:Send><rsp:Stream Name="stdin" CommandId="${commandId}" End="true">${line}</rsp:Stream></rsp:Send>`,
      { shellId },
    ),
    basic(),
  );
}

async function receive(shellId: string, commandId: string, timeout = 'PT20S'): Promise<Answer> {
  return post(
    envelope(
      `${SHELL}/Receive`,
      `<rsp:Receive><rsp:DesiredStream CommandId="${commandId}">stdout stderr</rsp:DesiredStream></rsp:Receive>`,
      { shellId, timeout },
    ),
    basic(),
  );
}

function stream(answer: Answer, name: string): Buffer[] {
  const pattern = new RegExp(`<rsp:Stream Name="${name}" CommandId="[^"]+">([^<]*)<`, 'g');
  return [...answer.body.matchAll(pattern)].map((match) => Buffer.from(match[1] ?? '', 'base64'));
}

async function run(
  script: string,
  input: unknown,
): Promise<{ exitCode: number; stdout: string; stderr: string; pieces: Buffer[] }> {
  const shellId = await openShell();
  const commandId = await start(shellId, script);
  await send(shellId, commandId, input);
  const answer = await receive(shellId, commandId);
  await post(envelope(`${TRANSFER}/Delete`, '', { shellId }), basic());
  const pieces = stream(answer, 'stdout');
  return {
    exitCode: Number(first(answer, /<rsp:ExitCode>(-?\d+)</)),
    stdout: Buffer.concat(pieces).toString('utf8'),
    stderr: Buffer.concat(stream(answer, 'stderr')).toString('utf8'),
    pieces,
  };
}

const ALLOW = '# hatchery-script: dhcp-filter-allow v1\n...';
const REMOVE = '# hatchery-script: dhcp-filter-remove v1\n...';
const allow = (description = 'vm-alice'): Promise<{ exitCode: number; stdout: string }> =>
  run(ALLOW, { entries: [{ mac: MAC, description }] });

describe('sign-in', () => {
  it('refuses without a body and says what it takes', async () => {
    const answer = await post(envelope(`${TRANSFER}/Create`, ''));
    expect(answer.status).toBe(401);
    expect(answer.body).toBe('');
    expect(String(answer.headers['www-authenticate'])).toContain('Negotiate');
    expect(String(answer.headers['www-authenticate'])).toContain('Basic realm="WSMAN"');
  });

  it('refuses a wrong Basic password', async () => {
    const wrong = `Basic ${Buffer.from(`${simulator.username}:wrong`).toString('base64')}`;
    expect((await post(envelope(`${TRANSFER}/Create`, ''), wrong)).status).toBe(401);
  });

  it('accepts NTLMv2 once and then the whole connection', async () => {
    const create = envelope(`${TRANSFER}/Create`, '<rsp:Shell/>');
    expect((await post(create, await ntlm(simulator.password))).status).toBe(200);
    expect((await post(create)).status).toBe(200);
  });

  it('refuses an NTLMv2 response made with another password', async () => {
    expect((await post(envelope(`${TRANSFER}/Create`, ''), await ntlm('wrong'))).status).toBe(401);
  });
});

describe('shells', () => {
  it('end when nobody asked for them longer than they said', async () => {
    const idle = '<rsp:IdleTimeOut>PT60S</rsp:IdleTimeOut>';
    const [left, kept] = [await openShell(idle), await openShell()];
    await context.clock.sleep(60_000);
    expect(faultCode(await post(envelope(`${TRANSFER}/Delete`, '', { shellId: left }), basic()))).toBe(
      '2150858843',
    );
    expect((await post(envelope(`${TRANSFER}/Delete`, '', { shellId: kept }), basic())).status).toBe(200);
  });

  it('answers every message with the MessageID it relates to', async () => {
    const shellId = await openShell();
    const answer = await post(envelope(`${TRANSFER}/Delete`, '', { shellId }), basic());
    expect(answer.body).toContain('<a:RelatesTo>uuid:m-1</a:RelatesTo>');
    expect(answer.body).toContain(`${TRANSFER}/DeleteResponse`);
    expect(simulator.openShells()).toBe(0);
  });

  it('refuses a shell above the quota until one is deleted', async () => {
    const shells = [await openShell(), await openShell(), await openShell()];
    const refused = await post(envelope(`${TRANSFER}/Create`, '<rsp:Shell/>'), basic());
    expect(refused.status).toBe(500);
    expect(faultCode(refused)).toBe('2150859173');
    expect(refused.body).toContain('allowed a maximum number of 3 concurrent shells');
    await post(envelope(`${TRANSFER}/Delete`, '', { shellId: shells[0]! }), basic());
    await openShell();
  });

  it('refuses a command when too many were never signalled', async () => {
    const shellId = await openShell();
    const known = [await start(shellId, ALLOW), await start(shellId, ALLOW)];
    expect(known.every((id) => id !== '')).toBe(true);
    const line = '<rsp:CommandLine><rsp:Command>hostname</rsp:Command></rsp:CommandLine>';
    const refused = await post(envelope(`${SHELL}/Command`, line, { shellId }), basic());
    expect(faultCode(refused)).toBe('2150859174');
  });

  it('answers a Receive that finds nothing in time with the OperationTimeout fault, and the output later', async () => {
    const shellId = await openShell();
    const commandId = await start(shellId, ALLOW);
    const early = await receive(shellId, commandId, 'PT0.05S');
    expect(early.status).toBe(500);
    expect(faultCode(early)).toBe('2150858793');
    await send(shellId, commandId, { entries: [] });
    const late = await receive(shellId, commandId);
    expect(late.body).toContain('CommandState/Done');
    expect(late.body).toContain('<rsp:ExitCode>0<');
  });

  it('knows no shell after its Delete', async () => {
    const shellId = await openShell();
    await post(envelope(`${TRANSFER}/Delete`, '', { shellId }), basic());
    expect(faultCode(await post(envelope(`${SHELL}/Command`, '', { shellId }), basic()))).toBe('2150858843');
  });

  it('ends a command at Signal without doing its work', async () => {
    const shellId = await openShell();
    const commandId = await start(shellId, ALLOW);
    await post(
      envelope(
        `${SHELL}/Signal`,
        `<rsp:Signal CommandId="${commandId}"><rsp:Code>${SHELL}/signal/terminate</rsp:Code></rsp:Signal>`,
        { shellId },
      ),
      basic(),
    );
    expect((await send(shellId, commandId, { entries: [] })).status).toBe(500);
  });

  it('refuses a body that is no SOAP', async () => {
    expect((await post('hello', basic())).status).toBe(500);
    expect((await post('{}', basic(), 'application/json')).status).toBe(415);
  });
});

describe('scripts', () => {
  it('adds a filter and writes it in the journal', async () => {
    const result = await allow('vm-élodie');
    expect(JSON.parse(result.stdout)).toMatchObject({ ok: true, changed: 1 });
    expect(simulator.filters()).toContainEqual({ mac: MAC, list: 'Allow', description: 'vm-élodie' });
    const lines = context.journal.read().filter((line) => line.op === 'dhcp.allow');
    expect(lines).toMatchObject([
      {
        effect: true,
        resource: '02:11:22:33:44:55',
        actor: 'SIM\\hatchery',
        params: { description: 'vm-élodie' },
      },
    ]);
  });

  it('cuts the output anywhere and keeps its bytes', async () => {
    const result = await run('# hatchery-script: dhcp-filter-check v1\n', {});
    expect(result.pieces.length).toBeGreaterThan(1);
    expect(JSON.parse(result.stdout).ok).toBe(true);
  });

  it('finds the same filter present the second time', async () => {
    await allow();
    expect(JSON.parse((await allow()).stdout)).toMatchObject({ changed: 0, data: [{ outcome: 'present' }] });
  });

  it('leaves the filter of somebody else alone', async () => {
    await allow('printer');
    expect(JSON.parse((await allow('vm-alice')).stdout).data).toMatchObject([
      { outcome: 'foreign', description: 'printer' },
    ]);
    const removed = await run(REMOVE, { entries: [{ mac: MAC, description: 'vm-alice' }] });
    expect(JSON.parse(removed.stdout).data).toMatchObject([{ outcome: 'foreign' }]);
  });

  it('removes a filter, and an absent one without an error', async () => {
    await allow();
    const entries = [{ mac: MAC, description: 'vm-alice' }];
    expect(JSON.parse((await run(REMOVE, { entries })).stdout).data).toMatchObject([{ outcome: 'removed' }]);
    expect(JSON.parse((await run(REMOVE, { entries })).stdout).data).toMatchObject([{ outcome: 'absent' }]);
  });

  it('answers a script that it does not know with a parser error as CLIXML', async () => {
    const result = await run('Get-Process', {});
    expect(result.exitCode).toBe(1);
    expect(result.stderr).toMatch(/^#< CLIXML\r\n<Objs .*UnexpectedToken/);
  });

  it('swallows a command or writes an error and exits 0 when a fault rule says so', async () => {
    context.faults.add({
      id: 'swallow',
      match: { op: 'winrm.script.dhcp-filter-allow', nth: 1 },
      when: 'during',
      effect: 'drop',
    });
    context.faults.add({
      id: 'stream',
      match: { op: 'winrm.script.dhcp-filter-allow', nth: 2 },
      when: 'during',
      effect: 'task-error',
      value: 'Access denied',
    });
    expect(await allow()).toMatchObject({ exitCode: 0, stdout: '' });
    expect(await allow()).toMatchObject({
      exitCode: 0,
      stdout: '',
      stderr: expect.stringContaining('Access denied'),
    });
    expect(simulator.filters().some((filter) => filter.mac === MAC)).toBe(false);
  });

  it('keeps the effect of a script whose answer was cut', async () => {
    context.faults.add({ id: 'cut', match: { op: 'winrm.receive' }, when: 'after', effect: 'reset' });
    await expect(allow()).rejects.toThrow();
    expect(simulator.filters().some((filter) => filter.mac === MAC)).toBe(true);
  });
});

/** A minimal NTLMv2 client of its own: the header of the last leg. */
async function ntlm(password: string): Promise<string> {
  const negotiate = Buffer.alloc(32);
  negotiate.write('NTLMSSP\0', 'latin1');
  negotiate.writeUInt32LE(1, 8);
  negotiate.writeUInt32LE(0xa0088205, 12);
  const refused = await post('', `Negotiate ${negotiate.toString('base64')}`);
  expect(refused.status).toBe(401);
  const challenge = Buffer.from(
    /Negotiate (\S+)/.exec(String(refused.headers['www-authenticate']))?.[1] ?? '',
    'base64',
  );
  const infoAt = challenge.readUInt32LE(44);
  const info = challenge.subarray(infoAt, infoAt + challenge.readUInt16LE(40));
  const utf16 = (text: string): Buffer => Buffer.from(text, 'utf16le');
  const hmac = (key: Buffer, data: Buffer): Buffer => createHmac('md5', key).update(data).digest();
  const key = hmac(
    Buffer.from(md4.create().update(utf16(password)).array()),
    utf16(`${simulator.username.toUpperCase()}SIM`),
  );
  const blob = Buffer.concat([
    Buffer.from([1, 1, 0, 0, 0, 0, 0, 0]),
    Buffer.alloc(8),
    randomBytes(8),
    Buffer.alloc(4),
    info,
    Buffer.alloc(4),
  ]);
  const response = Buffer.concat([hmac(key, Buffer.concat([challenge.subarray(24, 32), blob])), blob]);
  const fields = [
    Buffer.alloc(24),
    response,
    utf16('SIM'),
    utf16(simulator.username),
    utf16('CLIENT'),
    Buffer.alloc(0),
  ];
  const head = Buffer.alloc(64);
  head.write('NTLMSSP\0', 'latin1');
  head.writeUInt32LE(3, 8);
  let offset = 64;
  fields.forEach((field, index) => {
    head.writeUInt16LE(field.length, 12 + index * 8);
    head.writeUInt16LE(field.length, 14 + index * 8);
    head.writeUInt32LE(offset, 16 + index * 8);
    offset += field.length;
  });
  head.writeUInt32LE(0xa0088205, 60);
  return `Negotiate ${Buffer.concat([head, ...fields]).toString('base64')}`;
}
