import { describe, expect, it, vi } from 'vitest';
import {
  aBatch,
  aProgress,
  eventStream,
  fakeCliWorld,
  json,
  NO_COUNTS,
  problem,
  type FakeCliOptions,
} from '../../test/support/fake-cli-world.js';
import { vendorData } from '../core/vendor-data.js';
import { runCommandLine } from './program.js';

const ROSTER = new URL('../../examples/class-l3-info.csv', import.meta.url).pathname;
const ID = '01994a3e-0000-7000-8000-000000000001';
const CREATE = ['batch', 'create', ROSTER, '--blueprint', 'b', '--name', 'l3'];

async function run(args: readonly string[], options: FakeCliOptions = {}) {
  const world = fakeCliWorld(options);
  const code = await runCommandLine(args, world);
  return { code, ...world.said, world };
}

/** Every command of a group, as its help lists them. */
async function commandsOf(...group: string[]): Promise<string[]> {
  const { out } = await run([...group, '--help']);
  const list = out.split('Commands:\n')[1]?.split('\n\n')[0] ?? '';
  return [...list.matchAll(/^ {2}([a-z-]+)/gm)].map(([, name]) => name ?? '');
}

describe('the command line', () => {
  it('names the nearest command when one is misspelled', async () => {
    const { code, err } = await run(['batch', 'crate']);
    expect(code).toBe(2);
    expect(err).toContain("unknown command 'crate'");
    expect(err).toContain('Did you mean create?');
    expect((await run(['bach', 'list'])).err).toContain('Did you mean batch?');
    expect((await run(['batch', 'list', '--jsn'])).err).toContain('Did you mean --json?');
  });

  it('refuses a command that lacks something, and says where to read more', async () => {
    const { code, err, world } = await run(['batch', 'create', ROSTER]);
    expect(code).toBe(2);
    expect(err).toContain("required option '--blueprint <name>'");
    expect(err).toContain('(hatchery batch create --help says more)');
    expect(world.requests).toHaveLength(0);
  });

  it('explains every command in a few lines, with one example that it understands', async () => {
    const groups = await commandsOf();
    expect(groups).toEqual([
      'batch',
      'machine',
      'run',
      'cluster',
      'user',
      'token',
      'admin',
      'journal',
      'login',
      'logout',
      'simulate',
    ]);
    for (const group of groups) {
      const commands = await commandsOf(group);
      for (const path of commands.length === 0 ? [[group]] : commands.map((name) => [group, name])) {
        const { code, out } = await run([...path, '--help']);
        expect(code).toBe(0);
        expect(out.split('\n').length).toBeLessThan(35);
        expect(out).toContain('--json');
        const example = /Example:\n {2}hatchery (.*)/.exec(out)?.[1]?.split(' ') ?? [];
        expect(example.slice(0, path.length)).toEqual(path);
        // What the example needs from outside is missing here, but its form is right.
        expect((await run(example)).err).not.toMatch(/^error:/m);
      }
    }
  });

  it('says its version', async () => {
    expect((await run(['--version'])).out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('an answer', () => {
  it('is one JSON value on stdout with --json, and a table without', async () => {
    const service = () => json({ items: [aBatch()], nextCursor: null });
    expect(JSON.parse((await run(['batch', 'list', '--json'], { service })).out)).toEqual({
      items: [aBatch()],
    });
    expect((await run(['batch', 'list'], { service })).out).toMatch(
      /^name +state +ready .*\nl3 +working +0\/2 /,
    );
  });

  it('is read page after page, signed in with the token', async () => {
    const service = ({ url }: Request) =>
      json({ items: [aBatch({ name: url })], nextCursor: url.includes('cursor') ? null : 'next' });
    const { out, world } = await run(['batch', 'list', '--json'], { service });
    expect((JSON.parse(out) as { items: unknown[] }).items).toHaveLength(2);
    expect(world.requests.map(({ headers }) => headers.get('authorization'))).toEqual([
      'Bearer secret',
      'Bearer secret',
    ]);
  });

  it('prints vendor data byte for byte, to be written to a file', async () => {
    const text = vendorData('https://hatchery.example.org');
    const service = () => json({ cluster: 'main', volume: null, text });
    expect((await run(['cluster', 'vendor-data', 'main'], { service })).out).toBe(text);
  });

  it('never controls the terminal', async () => {
    const evil = 'x\u001b[2J\u009b31m\u202ey\nz';
    const service = () => json({ items: [aBatch({ name: evil, owner: evil })], nextCursor: null });
    for (const args of [
      ['batch', 'list'],
      ['batch', 'list', '--json'],
    ]) {
      const { out } = await run(args, { service });
      // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
      expect(out).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
    }
    const json_ = await run(['batch', 'list', '--json'], { service });
    expect((JSON.parse(json_.out) as { items: { name: string }[] }).items[0]?.name).toBe(evil);
  });
});

describe('what is sent', () => {
  it.each([
    CREATE,
    [...CREATE, '--skip-existing', '--notify-url', 'https://example.org/'],
    ['batch', 'plan', ...CREATE.slice(2)],
    ['batch', 'add', 'l3', ROSTER],
    ['batch', 'credentials', 'l3'],
    ['batch', 'delete', 'l3', '--yes', '--no-wait'],
    ['token', 'create', 'script', '--expires-in-days', '3'],
    ['user', 'create', 'jane', '--password-file', '-'],
    ['run', 'list', '--batch', 'l3'],
    ['run', 'skip', ID, 'desktop', '--reason', 'by hand'],
    ['run', 'release', ID, ID, '--reason', 'kept'],
    ['run', 'adopt', ID, ID, '--reason', 'restored'],
    ['batch', 'retry', 'l3', '--failed', '--code', 'no-capacity'],
    ['admin', 'released'],
    ['admin', 'doctor'],
    ['cluster', 'guests', 'main'],
    ['admin', 'workers'],
    ['admin', 'slots'],
    ['admin', 'locks'],
    ['cluster', 'pause', 'main', '--reason', 'upgrade'],
    ['machine', 'list'],
  ])('by %s %s holds what the API knows, and the token in its header only', async (...args) => {
    const given = ['--json', '--url', 'http://other.test', '--token', 'hat_canary'];
    const { world } = await run([...args, ...given], {
      service: () => json({ ...aBatch(), items: [], nextCursor: null }),
      answers: ['a password'],
    });
    expect(world.requests.length).toBeGreaterThan(0);
    for (const request of world.requests) {
      expect(request.headers.get('authorization')).toBe('Bearer hat_canary');
      expect(request.url).toMatch(/^http:\/\/other\.test\/api\/v1\//);
      const isForm = request.headers.get('content-type')?.startsWith('multipart/') === true;
      const body = isForm ? [...(await request.formData()).keys()].join(' ') : await request.text();
      expect(`${request.url} ${body}`).not.toMatch(/canary|\bjson\b|\burl\b/);
    }
  });

  it('is no token that a header cannot carry, and the refusal does not repeat it', async () => {
    for (const token of ['hat_canary\nx', 'hat canary', 'h\u00e4t_canary']) {
      const { code, out, err, world } = await run(['batch', 'list', '--json'], {
        environment: { HATCHERY_TOKEN: token },
      });
      expect(code).toBe(2);
      expect(out + err).not.toContain('canary');
      expect(err).toContain('Unable to sign in at http://service.test: the token');
      expect(world.requests).toHaveLength(0);
    }
  });
});

describe('an error', () => {
  it('with one finding says it once', async () => {
    const detail = 'The file is empty.';
    const service = () =>
      problem(422, 'roster-invalid', {
        detail: 'Unable to read the roster: The file is empty',
        hint: 'Save it again.',
        errors: [{ code: 'file-empty', detail, hint: 'Save it again.' }],
      });
    const { err } = await run(CREATE, { service });
    expect(err).toBe(
      'Unable to read the roster: The file is empty\nSave it again.\n(roster-invalid, request r-1)\n',
    );
  });

  it('of the command line itself is JSON too with --json', async () => {
    for (const args of [
      ['batch', 'crate'],
      ['batch', 'create'],
      ['nope'],
      ['batch'],
      ['batch', 'list', 'x'],
      [],
    ]) {
      const { code, out, err } = await run([...args, '--json']);
      expect(code).toBe(2);
      expect(err).not.toBe('');
      expect(JSON.parse(out)).toMatchObject({
        error: { code: 'request-invalid', detail: expect.stringMatching(/\S/) as string },
      });
    }
    expect((await run(['batch', '--help', '--json'])).code).toBe(0);
  });

  it('about an id that is none says where ids are found, without asking the service', async () => {
    for (const [args, list] of [
      [['run', 'show', 'nope'], 'hatchery run list'],
      [['run', 'retry', 'nope'], 'hatchery run list'],
      [['token', 'revoke', 'nope'], 'hatchery token list'],
    ] as const) {
      const { code, err, world } = await run(args);
      expect(code).toBe(2);
      expect(err).toContain('"nope" is no id');
      expect(err).toContain(list);
      expect(world.requests).toHaveLength(0);
    }
  });

  it('is the sentence, every finding, the hint, then code and request', async () => {
    const errors = [
      { row: 7, column: 'login', code: 'x', detail: 'Bad \u001b[2Jlogin.', hint: 'Write it.' },
      { row: 9, code: 'y', detail: 'Bad row.' },
    ];
    const service = () =>
      problem(422, 'roster-invalid', { detail: 'Unable to read the roster', hint: 'Look.', errors });
    const { code, out, err } = await run(CREATE, { service });
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toBe(
      'Unable to read the roster\n  row 7, column login: Bad login. -> Write it.\n  row 9: Bad row.\nLook.\n(roster-invalid, request r-1)\n',
    );
  });

  it.each([
    [422, 'roster-invalid', 2], [401, 'not-signed-in', 3], [403, 'forbidden', 3], [404, 'not-found', 4], [409, 'name-taken', 5],
    [503, 'cluster-unreachable', 7], [500, 'internal', 1], [418, 'of-a-later-version', 2],
  ])('%d %s ends with exit code %d', async (status, problemCode, exit) => {
    const { code, err } = await run(['batch', 'show', 'l3'], { service: () => problem(status, problemCode) });
    expect(code).toBe(exit);
    expect(err).toContain(`(${problemCode}, request r-1)`);
  }); // prettier-ignore

  it('is also JSON with --json', async () => {
    const { out } = await run(['batch', 'show', 'l3', '--json'], {
      service: () => problem(404, 'not-found'),
    });
    expect(JSON.parse(out)).toEqual({
      error: { code: 'not-found', detail: 'Unable: not-found', requestId: 'r-1' },
    });
  });

  it('of the network is exit code 7, and says how the address is found', async () => {
    const service = () => Promise.reject(new TypeError('fetch failed', { cause: { code: 'ECONNREFUSED' } }));
    const { code, err } = await run(['batch', 'list'], { service });
    expect(code).toBe(7);
    expect(err).toContain('Unable to reach http://service.test: nobody listens there (ECONNREFUSED)');
    expect(err).toContain('HATCHERY_URL');
  });

  it('tells a server that is not Hatchery from one that is', async () => {
    const service = () => new Response('<h1>hello</h1>', { headers: { 'content-type': 'text/html' } });
    const { code, err } = await run(['batch', 'list'], { service });
    expect(code).toBe(2);
    expect(err).toContain("is not Hatchery's");
  });

  it('without a token says how to sign in and asks nobody', async () => {
    const { code, err, world } = await run(['batch', 'list'], { environment: { HATCHERY_TOKEN: '' } });
    expect(code).toBe(3);
    expect(err).toContain('hatchery login --url http://service.test');
    expect(world.requests).toHaveLength(0);
  });
});

describe('batch create', () => {
  it('sends the roster as it is, and says how to watch', async () => {
    const { code, out, err, world } = await run([...CREATE, '--skip-existing'], {
      service: () => json(aBatch(), 202),
    });
    expect({ code, out }).toEqual({ code: 0, out: 'l3 is accepted: 2 machines.\n' });
    expect(err).toBe('Watch it with: hatchery batch watch l3\n');
    const form = await world.requests[0]!.formData();
    expect(form.get('skipExisting')).toBe('true');
    expect((form.get('roster') as File).name).toBe('class-l3-info.csv');
  });

  it('asks again under the same key when the connection breaks after it may have arrived', async () => {
    const answers = [
      () => Promise.reject(new TypeError('fetch failed', { cause: { code: 'ECONNRESET' } })),
      () => Promise.reject(new TypeError('fetch failed', { cause: { code: 'ECONNREFUSED' } })),
      () => problem(409, 'idempotency-in-progress'),
      () => json(aBatch(), 202),
    ];
    const { code, world } = await run(CREATE, { service: () => answers.shift()!() });
    expect(code).toBe(0);
    const keys = world.requests.map(({ headers }) => headers.get('idempotency-key'));
    expect(keys).toHaveLength(4);
    expect(new Set(keys).size).toBe(1);
    expect(world.pausesMs).toEqual([500, 1000, 2000]);
  });

  it('does not ask again when nothing was sent, nor for ever', async () => {
    const refused = () => Promise.reject(new TypeError('fetch failed', { cause: { code: 'ECONNREFUSED' } }));
    expect((await run(CREATE, { service: refused })).world.requests).toHaveLength(1);
    const reset = () => Promise.reject(new TypeError('fetch failed', { cause: { code: 'ECONNRESET' } }));
    const { code, world } = await run(CREATE, { service: reset });
    expect(code).toBe(7);
    expect(world.requests.length).toBeLessThan(20);
  });

  it.each(['/nowhere/class.csv', '/'])('refuses the roster %s that cannot be read', async (path) => {
    const { code, err, world } = await run(['batch', 'create', path, '--blueprint', 'b', '--name', 'n']);
    expect(code).toBe(2);
    expect(err).toContain('Unable to read the roster');
    expect(world.requests).toHaveLength(0);
  });
});

describe('watching a batch', () => {
  const results = (counts: Partial<typeof NO_COUNTS>) => ({
    batch: 'l3',
    counts: { ...NO_COUNTS, ...counts },
    items: [],
    causes: [],
  });
  const watched = (streams: (() => Response)[], counts: Partial<typeof NO_COUNTS>) => ({
    service: ({ url }: Request) => {
      if (url.includes('/events')) return streams.shift()?.() ?? Response.error();
      if (url.includes('/results')) return json(results(counts));
      if (url.includes('/machines')) return json({ items: [], nextCursor: null });
      return json(aBatch());
    },
  });

  it('ends with the results, and with 6 when not all are ready', async () => {
    const stream = (ready: number, parked: number) => () =>
      eventStream(
        aProgress(1, 'working', { creating: 2 }),
        aProgress(2, parked > 0 ? 'attention' : 'ready', { ready, parked }),
      );
    const good = await run(['batch', 'watch', 'l3'], watched([stream(2, 0)], { ready: 2 }));
    expect(good.code).toBe(0);
    expect(good.out).toContain('l3: 2 of 2 ready\n');
    expect(good.err).toBe(
      'l3: 0/2 ready, 50 %, ready at 2026-01-01 10:01 (in 4 s)\nl3: 2/2 ready, 100 %, after 1:00\n',
    );
    const bad = await run(
      ['batch', 'watch', 'l3', '--json'],
      watched([stream(1, 1)], { ready: 1, parked: 1 }),
    );
    expect(bad.code).toBe(6);
    expect(JSON.parse(bad.out)).toMatchObject({ counts: { ready: 1, parked: 1 } });
  });

  it('comes back behind its last event when the service was away', async () => {
    const away = () => Promise.reject(new TypeError('fetch failed', { cause: { code: 'ECONNREFUSED' } }));
    const streams = [
      () => eventStream(aProgress(41, 'working', { creating: 2 })),
      away as unknown as () => Response,
      () => problem(503, 'service-unreachable'),
      () => eventStream(aProgress(44, 'ready', { ready: 2 })),
    ];
    const { code, err, world } = await run(['batch', 'watch', 'l3'], watched(streams, { ready: 2 }));
    expect(code).toBe(0);
    const asked = world.requests
      .filter(({ url }) => url.includes('/events'))
      .map(({ url }) => new URL(url).searchParams.get('after'));
    expect(asked).toEqual([null, '41', '41', '41']);
    expect(err).toContain('The service does not answer; the batch is not lost. Trying again ...\n');
    expect(err).toContain('The service answers again.\n');
  });

  it('starts from now when the service no longer knows the last event', async () => {
    const streams = [
      () => eventStream(aProgress(41, 'working', { creating: 2 })),
      () => problem(400, 'request-invalid'),
      () => eventStream(aProgress(1, 'ready', { ready: 2 })),
    ];
    const { code, world } = await run(['batch', 'watch', 'l3'], watched(streams, { ready: 2 }));
    expect(code).toBe(0);
    expect(world.requests.at(-2)?.url).not.toContain('after');
  });

  it('stops when the sign-in has ended', async () => {
    const streams = [
      () => eventStream(aProgress(1, 'working', { creating: 2 })),
      () => problem(401, 'not-signed-in'),
    ];
    expect((await run(['batch', 'watch', 'l3'], watched(streams, {}))).code).toBe(3);
  });

  it('takes a connection that has gone silent for lost', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      let isFirst = true;
      const service = ({ url, signal }: Request) => {
        if (!url.includes('/events')) return watched([], { ready: 2 }).service({ url } as Request);
        if (!isFirst) return eventStream(aProgress(2, 'ready', { ready: 2 }));
        isFirst = false;
        return new Response(
          new ReadableStream({
            start: (stream) => signal.addEventListener('abort', () => stream.error(signal.reason)),
          }),
          { headers: { 'content-type': 'text/event-stream' } },
        );
      };
      const watching = run(['batch', 'watch', 'l3'], { service });
      await vi.waitFor(() => expect(isFirst).toBe(false));
      await vi.advanceTimersByTimeAsync(60_000);
      expect((await watching).code).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });

  it('leaves the batch alone on Ctrl-C and says how to come back', async () => {
    const world = fakeCliWorld({
      service: ({ url, signal }) => {
        if (!url.includes('/events')) return json(aBatch());
        return new Response(
          new ReadableStream({
            start(stream) {
              stream.enqueue(new TextEncoder().encode(aProgress(1, 'working', { creating: 2 })));
              signal.addEventListener('abort', () => stream.error(signal.reason));
              world.pressCtrlC();
            },
          }),
          { headers: { 'content-type': 'text/event-stream' } },
        );
      },
    });
    expect(await runCommandLine(['batch', 'watch', 'l3'], world)).toBe(130);
    expect(world.said.err).toContain(
      'The batch goes on without you. Come back with: hatchery batch watch l3\n',
    );
    expect(world.requests.every(({ method }) => method === 'GET')).toBe(true);
  });

  it('draws one bar in place on a terminal, failures below it', async () => {
    const options = watched([() => eventStream(aProgress(1, 'attention', { ready: 1, parked: 1 }))], {
      ready: 1,
      parked: 1,
    });
    const machine = {
      name: 'vm-a',
      login: 'a',
      state: 'parked',
      error: { code: 'address-unknown', message: 'no lease' },
    };
    const { err } = await run(['batch', 'watch', 'l3'], {
      isTty: true,
      service: (request) => {
        const parked = request.url.includes('state=parked');
        return parked ? json({ items: [machine], nextCursor: null }) : options.service(request);
      },
    });
    expect(err).toMatch(/^l3 \[.*\n\u001b\[1A\u001b\[Jl3 \[.*\n {2}a \(vm-a\): address-unknown: no lease\n$/);
  });
});

describe('deleting', () => {
  const gone = aBatch({ state: 'deleted', counts: { ...NO_COUNTS, deleted: 2 } });
  const service = ({ url, method }: Request) => {
    if (url.includes('/events')) return eventStream(aProgress(1, 'deleted', { deleted: 2 }));
    if (url.includes('/results')) return json({ batch: 'l3', counts: gone['counts'], items: [], causes: [] });
    return json(method === 'DELETE' ? aBatch({ state: 'deleting' }) : gone, method === 'DELETE' ? 202 : 200);
  };
  const methods = ({ world }: { world: { requests: Request[] } }) =>
    world.requests.map(({ method }) => method);

  it('wants --yes where nobody can be asked', async () => {
    const refused = await run(['batch', 'delete', 'l3'], { service });
    expect(refused.code).toBe(2);
    expect(refused.err).toContain('Say --yes.');
    expect(methods(refused)).not.toContain('DELETE');
  });

  it('wants the name typed on a terminal', async () => {
    const wrong = await run(['batch', 'delete', 'l3'], { service, isTty: true, answers: ['yes'] });
    expect(wrong.code).toBe(2);
    expect(methods(wrong)).not.toContain('DELETE');
    const right = await run(['batch', 'delete', 'l3'], { service, isTty: true, answers: ['l3'] });
    expect(right.code).toBe(0);
    expect(right.out).toBe('l3 is deleted: 2 machines.\n');
  });

  it('comes back at once with --no-wait', async () => {
    const { code, out, world } = await run(['batch', 'delete', 'l3', '--yes', '--no-wait'], { service });
    expect({ code, out }).toEqual({ code: 0, out: 'l3 is being deleted.\n' });
    expect(world.requests.some(({ url }) => url.includes('/events'))).toBe(false);
  });
});

describe('run retry', () => {
  it('retries every parked run of a batch that failed for one cause', async () => {
    const service = () => json({ resumed: 2, replaced: 0, batch: aBatch() }, 202);
    const { code, out, world } = await run(['run', 'retry', '--batch', 'l3', '--code', 'address-unknown'], {
      service,
    });
    expect({ code, out }).toEqual({ code: 0, out: '2 machines go on.\n' });
    expect(world.requests.map(({ url }) => new URL(url).pathname)).toEqual(['/api/v1/batches/l3/retry']);
    expect(await world.requests[0]!.json()).toEqual({ which: 'parked', code: 'address-unknown' });
  });

  it('wants to know which', async () => {
    expect((await run(['run', 'retry'])).code).toBe(2);
    expect((await run(['run', 'retry', 'x', '--batch', 'l3'])).code).toBe(2);
  });
});

describe('batch retry', () => {
  it('asks once for all machines, and says how many go on and how many are made anew', async () => {
    const service = () => json({ resumed: 1, replaced: 4, batch: aBatch() }, 202);
    const { code, err, world } = await run(['batch', 'retry', 'l3'], { service });
    expect(code).toBe(0);
    expect(err).toContain('1 machine goes on, 4 machines are made anew.');
    expect(await Promise.all(world.requests.map((request) => request.json()))).toEqual([{ which: 'all' }]);
  });

  it('does not take two opposite wishes', async () => {
    expect((await run(['batch', 'retry', 'l3', '--parked', '--failed'])).code).toBe(2);
  });
});

describe('admin doctor', () => {
  const finding = (check: string, verdict: string, remedy: string | null = null) => ({
    check,
    verdict,
    detail: `about ${check}`,
    remedy,
  });

  it('says what is wrong and what to do about it, and ends with 6 when something failed', async () => {
    const report = (verdict: string) => ({
      verdict,
      at: '2026-01-01T10:00:00.000Z',
      findings: [finding('redis', verdict, 'mend it'), finding('postgres', 'ok')],
    });
    const failed = await run(['admin', 'doctor'], { service: () => json(report('failed')) });
    expect(failed.code).toBe(6);
    expect(failed.out.split('\n')).toEqual([
      'FAILED   redis     about redis',
      '                   -> mend it',
      'ok       postgres  about postgres',
      '',
      '1 failed, 0 warnings.',
      '',
    ]);
    expect((await run(['admin', 'doctor'], { service: () => json(report('warning')) })).code).toBe(0);
  });

  it('names the store that is away when the service can tell nothing else', async () => {
    const service = ({ url }: Request) =>
      url.endsWith('/health/ready')
        ? json({ status: 'error', details: { postgres: { status: 'down' }, redis: { status: 'up' } } }, 503)
        : problem(503, 'service-unreachable');
    const { code, out } = await run(['admin', 'doctor'], { service });
    expect(code).toBe(6);
    expect(out).toMatch(/FAILED {3}postgres .*\n.*Bring it back/);
    expect((await run(['admin', 'doctor'], { service: () => problem(403, 'forbidden') })).code).toBe(3);
  });
});

describe('user create', () => {
  it('asks for the password twice and never takes it from the command line', async () => {
    const service = () => json({ login: 'jane', role: 'teacher' }, 201);
    const created = await run(['user', 'create', 'jane'], {
      service,
      isTty: true,
      answers: ['long enough', 'long enough'],
    });
    expect(created.code).toBe(0);
    expect(await created.world.requests[0]!.json()).toEqual({
      login: 'jane',
      password: 'long enough',
      role: 'teacher',
    });
    expect((await run(['user', 'create', 'jane'], { service, isTty: true, answers: ['a', 'b'] })).code).toBe(
      2,
    );
    expect((await run(['user', 'create', 'jane', '--password', 'x'], { service })).code).toBe(2);
    expect((await run(['user', 'create', 'jane'], { service })).err).toContain('--password-file');
  });
});

describe('programs', () => {
  it('starts the simulators with the same options and ends as they end', async () => {
    const { code, world } = await run(['simulate', 'all', '--port', '0', '--time-scale', '0.05', '--json']);
    expect(code).toBe(3);
    expect(world.programs).toEqual([['simulators/program.js', 'all', '--port', '0', '--time-scale', '0.05']]);
    expect((await run(['simulate', 'everything'])).code).toBe(2);
  });

  it('hands a journal to its checker', async () => {
    const { world } = await run([
      'journal',
      'check',
      'j.ndjson',
      '--submits',
      's',
      '--export',
      'e',
      '--deleted',
      '--json',
    ]);
    expect(world.programs[0]?.slice(1)).toEqual([
      '--submits',
      's',
      '--export',
      'e',
      '--deleted',
      '--json',
      '--',
      'j.ndjson',
    ]);
  });
});

describe('the limits of a cluster', () => {
  const limit = {
    resource: 'clones@storage:main/ceph',
    limit: 3,
    rule: 'lock-wait',
    configured: 4,
    bounds: { min: 1, max: 8 },
    inUse: 3,
    waiting: 200,
    lockWait: { meanMs: 1_430, clones: 12 },
    why: 'clones waited 4.3 s for a lock, above 4 s',
    changedAt: '2026-11-27T10:00:00.000Z',
  };
  const service = () => json({ items: [limit], nextCursor: null });

  it('are shown with what they follow', async () => {
    const { code, out, world } = await run(['cluster', 'limits', 'main'], { service });
    expect(code).toBe(0);
    expect(out).toMatch(
      /clones@storage:main\/ceph +3 +3 +200 +4 +1-8 +lock-wait +1\.4 s \(12\) .* above 4 s/,
    );
    expect(world.requests.map(({ method }) => method)).toEqual(['GET']);
  });

  it('are fixed or let go, several at once', async () => {
    const { world } = await run(
      ['cluster', 'limits', 'main', 'clones@storage:main/ceph=6', 'starts@node:main/pve1=auto'],
      { service },
    );
    expect(world.requests[0]).toMatchObject({ method: 'PATCH' });
    expect(await world.requests[0]!.json()).toEqual({
      limits: { 'clones@storage:main/ceph': 6, 'starts@node:main/pve1': 'auto' },
    });
  });

  it.each(['ceph', 'ceph=0', 'ceph=many'])('refuses %s', async (text) => {
    const { code, err, world } = await run(['cluster', 'limits', 'main', text], { service });
    expect(code).toBe(2);
    expect(err).toContain(`Unable to read the limit "${text}"`);
    expect(world.requests).toHaveLength(0);
  });
});

describe('an export', () => {
  const service = (text: string) => () =>
    new Response(text, { headers: { 'content-type': 'application/x-ndjson; charset=utf-8' } });
  const WHOLE = '{"row":"export","v":1}\n{"row":"machine","name":"vm-a"}\n{"row":"end","rows":1}\n';

  it('is printed line by line, or as one list', async () => {
    expect(await run(['admin', 'export'], { service: service(WHOLE) })).toMatchObject({
      code: 0,
      out: WHOLE,
    });
    const { out } = await run(['admin', 'export', '--json'], { service: service(WHOLE) });
    expect(JSON.parse(out)).toMatchObject([{ row: 'export' }, { name: 'vm-a' }, { row: 'end' }]);
  });

  it('that was cut off is no export', async () => {
    const half = WHOLE.split('{"row":"end"')[0]!;
    const { code, err } = await run(['admin', 'export'], { service: service(half) });
    expect(code).toBe(7);
    expect(err).toContain('broke off');
  });
});
