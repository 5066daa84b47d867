import type { CliWorld } from '../../src/cli/world.js';

/** What a person answers and what the service does; everything else is an empty world. */
export interface FakeCliOptions {
  readonly answers?: readonly string[];
  readonly environment?: Record<string, string>;
  readonly isTty?: boolean;
  /** The service: gives the answer to a request. */
  readonly service?: (request: Request) => Response | Promise<Response>;
}

export interface FakeCliWorld extends CliWorld {
  readonly said: { out: string; err: string };
  readonly requests: Request[];
  readonly programs: (readonly string[])[];
  readonly pausesMs: number[];
  pressCtrlC(): void;
}

/** The world of a command line without a process: it remembers what was said and asked. */
export function fakeCliWorld(options: FakeCliOptions = {}): FakeCliWorld {
  const { isTty = false, service = () => Response.error() } = options;
  const answers = [...(options.answers ?? [])];
  const said = { out: '', err: '' };
  const requests: Request[] = [];
  const programs: (readonly string[])[] = [];
  const pausesMs: number[] = [];
  const interrupts = new Set<() => void>();
  const ask = (question: string): Promise<string> => {
    said.err += question;
    return Promise.resolve(answers.shift() ?? '');
  };
  return {
    said,
    requests,
    programs,
    pausesMs,
    pressCtrlC: () => interrupts.forEach((listener) => listener()),
    environment: { HATCHERY_URL: 'http://service.test', HATCHERY_TOKEN: 'secret', ...options.environment },
    home: '/nowhere/home',
    root: new URL('../..', import.meta.url).pathname,
    fetch: async (input, init) => {
      const request = new Request(input, init);
      requests.push(request.clone());
      return service(request);
    },
    sleep: (ms) => {
      pausesMs.push(ms);
      return Promise.resolve();
    },
    runProgram: (script, args) => {
      programs.push([script, ...args]);
      return Promise.resolve(3);
    },
    terminal: {
      out: (text) => void (said.out += text),
      err: (text) => void (said.err += text),
      isOutTty: isTty,
      isErrTty: isTty,
      canAsk: isTty,
      outColor: false,
      errColor: false,
      width: () => 100,
      ask,
      askSecret: ask,
      readInput: () => Promise.resolve(`${answers.shift() ?? ''}\n`),
      onInterrupt: (listener) => {
        interrupts.add(listener);
        return () => interrupts.delete(listener);
      },
    },
  };
}

export const json = (body: unknown, status = 200): Response =>
  new Response(JSON.stringify(body), {
    status,
    headers: { 'content-type': status < 400 ? 'application/json' : 'application/problem+json' },
  });

/** A problem as the service answers it. */
export const problem = (status: number, code: string, more: Record<string, unknown> = {}): Response =>
  json(
    {
      type: `urn:hatchery:error:${code}`,
      title: code,
      status,
      code,
      detail: `Unable: ${code}`,
      requestId: 'r-1',
      ...more,
    },
    status,
  );

export const NO_COUNTS = {
  total: 2,
  reserved: 0,
  creating: 0,
  ready: 0,
  parked: 0,
  failed: 0,
  deleting: 0,
  deleted: 0,
};

export const aBatch = (more: Record<string, unknown> = {}): Record<string, unknown> => ({
  id: '01994a3e-0000-7000-8000-000000000001',
  name: 'l3',
  owner: 'teacher',
  blueprint: { name: 'student-desktop', version: 1 },
  cluster: 'main',
  state: 'working',
  counts: { ...NO_COUNTS, creating: 2 },
  createdAt: '2026-01-01T10:00:00.000Z',
  settledAt: null,
  deletedAt: null,
  ...more,
});

/** A batch.progress event on the wire. */
export const aProgress = (seq: number, state: string, counts: Partial<typeof NO_COUNTS>): string =>
  `id: ${seq}\nevent: batch.progress\ndata: ${JSON.stringify({
    v: 1, seq, at: '2026-01-01T10:01:00.000Z', type: 'batch.progress', batch: aBatch()['id'], machine: null, run: null, step: null,
    state, percent: 50, code: null, data: { counts: { ...NO_COUNTS, ...counts }, remainingSeconds: 4, expectedReadyAt: '2026-01-01T10:01:04.000Z' },
  })}\n\n`; // prettier-ignore

export const eventStream = (...pieces: string[]): Response =>
  new Response(pieces.join(''), { headers: { 'content-type': 'text/event-stream' } });
