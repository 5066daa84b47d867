import { randomBytes, randomUUID } from 'node:crypto';
import { assemble, type Assembly, type AssembleOptions } from '../../src/app/engine/assemble.js';
import { loadSite } from '../../src/app/config/site.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import type { Actor } from '../../src/engine/intake.js';
import type { RosterRow } from '../../src/core/roster/roster.js';
import { redisPrefix, redisUrl, testDatabase } from './stores.js';
import type { SimulatedSite } from './simulated-site.js';

const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

/** The engine with its real drivers on an own database, without Nest. Nothing runs until `assembly.caretaker` and a worker are started. */
export interface Assembled {
  readonly assembly: Assembly;
  readonly options: AssembleOptions;
  readonly admin: Actor;
  readonly teacher: Actor;
  /** Resolves when `sql` (one boolean column `ok`) is true. */
  until(sql: string, values?: readonly unknown[], withinMs?: number): Promise<void>;
  close(): Promise<void>;
}

export async function assembled(
  site: SimulatedSite,
  more: Partial<AssembleOptions> = {},
): Promise<Assembled> {
  const database = await testDatabase();
  const options: AssembleOptions = {
    databaseUrl: database.url,
    redisUrl: redisUrl(),
    redisPrefix: redisPrefix(),
    deployment: randomUUID(),
    secretKey: randomBytes(32),
    site: loadSite({ configDir: site.configDir, env: {} }),
    remoteTimeScale: site.timeScale,
    log: quiet,
    observe: () => {},
    webhook: { post: async () => {} },
    ...more,
  };
  const assembly = await assemble(options);
  const admin: Actor = { userId: randomUUID(), login: 'admin', role: 'admin' };
  const teacher: Actor = { userId: randomUUID(), login: 'prof', role: 'teacher' };
  for (const actor of [admin, teacher])
    await assembly.database.query('insert into users (id, login, role) values ($1, $2, $3)', [
      actor.userId,
      actor.login,
      actor.role,
    ]);
  return {
    assembly,
    options,
    admin,
    teacher,
    async until(sql, values = [], withinMs = 60_000) {
      for (const endsAt = performance.now() + withinMs; ; await systemClock.sleep(20)) {
        const [row] = await assembly.database.query<{ ok: boolean }>(sql, values);
        if (row?.ok === true) return;
        if (performance.now() > endsAt)
          throw new Error(
            `never true: ${sql}\n${JSON.stringify(await assembly.database.query('select run_id, key, state, due_at, worker_id, error from steps'), null, 1)}`,
          );
      }
    },
    async close() {
      await assembly.close();
      await database.drop();
    },
  };
}

/** People as a roster gives them. */
export const people = (count: number, prefix = 's'): RosterRow[] =>
  Array.from({ length: count }, (_, index) => ({
    row: index + 2,
    login: `${prefix}${index}`,
    loginKey: `${prefix}${index}`,
    lastName: 'Nom',
    firstName: 'Prénom',
    sshKeys: [],
  }));
