import { randomUUID } from 'node:crypto';
import { HatcheryError } from '../../core/errors.js';
import { createClient, createConfig, type Client } from '../../client/client/index.js';
import {
  batchEvents,
  batchResults,
  createBatch,
  createToken,
  createUser,
  deleteBatch,
  listBatches,
  login,
} from '../../client/sdk.gen.js';
import type { Batch, BatchResults, Event } from '../../client/types.gen.js';
import type { Account, InstanceSecrets } from './instance-secrets.js';

/** What the service tells about the class while it works. */
export interface ClassProgress {
  readonly state: Batch['state'];
  readonly percent: number;
  readonly counts: Batch['counts'];
  readonly remainingSeconds: number | null;
}

export interface ClassRun {
  readonly batch: Batch;
  /** `performance.now()` at the 202. */
  readonly acceptedAtMs: number;
}

/** The demo's side of the API: what a teacher and an admin do, by the same client as the command line. */
export class DemoApi {
  private constructor(
    private readonly teacher: Client,
    readonly adminToken: string,
  ) {}

  /** Signs in as admin, makes the teacher's account unless it is there, signs in as teacher. */
  static async signIn(url: string, { admin, teacher }: InstanceSecrets): Promise<DemoApi> {
    const adminClient = clientFor(url, await tokenOf(url, admin));
    const created = await createUser({ client: adminClient, body: { ...teacher, role: 'teacher' } });
    if (created.error && created.error.code !== 'name-taken')
      throw refused('make the teacher', created.error);
    const token = await createToken({ client: adminClient, body: { name: 'demo' } });
    if (!token.data) throw refused('make a token for the command line', token.error);
    return new DemoApi(clientFor(url, await tokenOf(url, teacher)), token.data.token);
  }

  /** The class that a kept database already has. */
  async existing(name: string): Promise<Batch | undefined> {
    const { data, error } = await listBatches({ client: this.teacher, query: {} });
    if (!data) throw refused('list the batches', error);
    return data.items.find((batch) => batch.name === name);
  }

  async submit(name: string, blueprint: string, roster: string): Promise<ClassRun> {
    const { data, error } = await createBatch({
      client: this.teacher,
      body: { roster: new File([roster], `${name}.csv`, { type: 'text/csv' }), blueprint, name },
      headers: { 'Idempotency-Key': randomUUID() },
    });
    if (!data) throw refused('submit the class', error);
    return { batch: data, acceptedAtMs: performance.now() };
  }

  async delete(batch: Batch): Promise<void> {
    const { error } = await deleteBatch({ client: this.teacher, path: { id: batch.id } });
    if (error) throw refused('delete the class', error);
  }

  async results(batch: Batch): Promise<BatchResults> {
    const { data, error } = await batchResults({ client: this.teacher, path: { id: batch.id } });
    if (!data || typeof data === 'string') throw refused('read the results', error);
    return data;
  }

  /** Events of the batch until its state is one of `until`; comes back by itself after a broken connection. */
  async follow(batch: Batch, until: readonly Batch['state'][], seen: (event: Event) => void): Promise<void> {
    const closing = new AbortController();
    let after = 0;
    try {
      for (;;) {
        const { stream } = await batchEvents({
          client: this.teacher,
          path: { id: batch.id },
          query: { after },
          signal: closing.signal,
          sseDefaultRetryDelay: 200,
        });
        for await (const event of stream) {
          after = event.seq;
          seen(event);
          if (event.type === 'batch.progress' && until.some((state) => state === event.state)) return;
        }
      }
    } finally {
      closing.abort();
    }
  }
}

/** The progress that an event carries, if it does. */
export function progressOf(event: Event): ClassProgress | undefined {
  if (event.type !== 'batch.progress' || event.data === undefined) return undefined;
  return { state: event.state as Batch['state'], percent: event.percent ?? 0, ...event.data };
}

const clientFor = (url: string, token?: string): Client =>
  createClient(createConfig({ baseUrl: url, ...(token === undefined ? {} : { auth: token }) }));

async function tokenOf(url: string, account: Account): Promise<string> {
  const { data, error } = await login({ client: clientFor(url), body: { ...account } });
  if (!data) throw refused(`sign in as ${account.login}`, error);
  return data.token;
}

/** The problem of the service as our own error. */
function refused(
  what: string,
  problem: { code?: string; detail?: string; hint?: string } | undefined,
): HatcheryError {
  return new HatcheryError(
    'internal',
    `Unable to ${what}: ${problem?.detail ?? 'the service does not answer'}`,
    {
      ...(problem?.hint === undefined ? {} : { hint: problem.hint }),
      facts: { code: problem?.code },
    },
  );
}
