import type { Client } from '../../client/client/index.js';
import {
  batchResults,
  createBatch,
  createToken,
  createUser,
  deleteBatch,
  listBatches,
  login,
} from '../../client/sdk.gen.js';
import type { Batch, BatchResults } from '../../client/types.gen.js';
import { HatcheryError } from '../../core/errors.js';
import { answer, apiClient } from '../api.js';
import type { Cli } from '../cli.js';
import { followBatch } from '../follow-batch.js';
import { submit } from '../submit.js';
import { watchBatch } from '../watch-batch.js';
import type { Account, InstanceSecrets } from './instance-secrets.js';

export interface AcceptedClass {
  readonly batch: Batch;
  /** `performance.now()` at the 202. */
  readonly acceptedAtMs: number;
}

/** What a teacher and an admin do in the demo, by the same client as the command line. */
export class DemoApi {
  private constructor(
    private readonly cli: Cli,
    private readonly teacher: Client,
    readonly adminToken: string,
  ) {}

  /** Signs in as admin, makes the teacher's account unless it is there, signs in as teacher. */
  static async signIn(cli: Cli, url: string, { admin, teacher }: InstanceSecrets): Promise<DemoApi> {
    const as = async (account?: Account): Promise<Client> => {
      const stranger = apiClient(url, undefined, cli.world.fetch);
      if (account === undefined) return stranger;
      const { token } = await answer(login({ client: stranger, body: { ...account } }));
      return apiClient(url, token, cli.world.fetch);
    };
    const adminClient = await as(admin);
    await answer(createUser({ client: adminClient, body: { ...teacher, role: 'teacher' } })).catch(
      (error: unknown) => {
        if (!(error instanceof HatcheryError && error.code === 'name-taken')) throw error;
      },
    );
    const { token } = await answer(createToken({ client: adminClient, body: { name: 'demo' } }));
    return new DemoApi(cli, await as(teacher), token);
  }

  /** The class that a kept database already has. */
  async existing(name: string): Promise<Batch | undefined> {
    const { items } = await answer(listBatches({ client: this.teacher, query: {} }));
    return items.find((batch) => batch.name === name);
  }

  async submit(name: string, blueprint: string, roster: string): Promise<AcceptedClass> {
    const file = new File([roster], `${name}.csv`, { type: 'text/csv' });
    const batch = await submit(this.cli, (key) =>
      answer(
        createBatch({
          client: this.teacher,
          body: { roster: file, blueprint, name },
          headers: { 'Idempotency-Key': key },
        }),
      ),
    );
    return { batch, acceptedAtMs: performance.now() };
  }

  async delete(batch: Batch): Promise<Batch> {
    return await answer(deleteBatch({ client: this.teacher, path: { id: batch.id } }));
  }

  async results(batch: Batch): Promise<BatchResults> {
    return await answer(batchResults({ client: this.teacher, path: { id: batch.id } }));
  }

  /** Shows the batch until nothing of it moves any more. */
  async watch(batch: Batch, goal: 'ready' | 'deleted'): Promise<void> {
    await watchBatch(this.cli, this.teacher, batch, goal);
  }

  /** Says when each machine became ready, by `performance.now()`, until the batch has come to rest. */
  async readyTimes(batch: Batch): Promise<number[]> {
    const times = new Map<string, number>();
    await followBatch(this.teacher, batch.id, {
      signal: new AbortController().signal,
      sleep: (ms, signal) => this.cli.world.sleep(ms, signal),
      outage: () => undefined,
      seen: ({ type, state, machine }) => {
        if (type === 'machine.state' && state === 'ready' && machine !== null && !times.has(machine))
          times.set(machine, performance.now());
      },
      isOver: ({ type, state }) => type === 'batch.progress' && state !== 'working',
    });
    return [...times.values()];
  }
}
