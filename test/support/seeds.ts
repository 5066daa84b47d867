import type pg from 'pg';
import { v7 as uuidv7 } from 'uuid';
import type { MachineState } from '../../src/core/states.js';

export interface SeededBatch {
  readonly id: string;
  readonly machines: readonly { id: string; runId: string; stepId: string; login: string }[];
}

const BLUEPRINT = {
  name: 'desk',
  version: 1,
  title: { en: 'Desk', fr: 'Poste' },
};

/** A batch as the engine would have left it: one run with one step for each machine. */
export async function seedBatch(
  db: pg.Pool,
  batch: {
    name: string;
    ownerId: string;
    states: readonly MachineState[];
    errorCode?: string;
    firstVmid?: number;
  },
): Promise<SeededBatch> {
  const [blueprintId, batchId] = [uuidv7(), uuidv7()];
  const { rows } = await db.query<{ id: string }>(
    `insert into blueprint_versions (id, name, version, digest, definition) values ($1, 'desk', 1, 'd', $2)
     on conflict (name, version) do update set digest = excluded.digest returning id`,
    [blueprintId, BLUEPRINT],
  );
  await db.query(
    `insert into workflow_versions (id, workflow, plan) values ('w1', 'student-vm', '{}') on conflict do nothing`,
  );
  await db.query(
    `insert into batches (id, name, owner_id, blueprint_version_id, workflow_version_id, cluster) values ($1, $2, $3, $4, 'w1', 'main')`,
    [batchId, batch.name, batch.ownerId, rows[0]!.id],
  );
  const machines = [];
  for (const [index, state] of batch.states.entries()) {
    const machine = { id: uuidv7(), runId: uuidv7(), stepId: uuidv7(), login: `student${index + 1}` };
    const error =
      state === 'failed' || state === 'parked'
        ? { code: batch.errorCode ?? 'remote-refused', message: 'Unable to clone: no' }
        : null;
    await db.query(
      `insert into machines (id, batch_id, owner_id, row, login, name, cluster, vmid, mac, node, state, error)
       values ($1, $2, $3, $4, $5, $6, 'main', $7, 'bc:24:11:00:00:01', 'pve1', $8, $9)`,
      [
        machine.id,
        batchId,
        batch.ownerId,
        index + 2,
        machine.login,
        `vm-${machine.login}`,
        (batch.firstVmid ?? 10_000) + index,
        state,
        error,
      ],
    );
    await db.query(
      `insert into runs (id, machine_id, batch_id, workflow_version_id, inputs, state, error) values ($1, $2, $3, 'w1', '{}', $4, $5)`,
      [machine.runId, machine.id, batchId, error ? 'parked' : 'running', error],
    );
    await db.query(
      `insert into steps (id, run_id, cluster, owner_id, key, uses, version, rank, state) values ($1, $2, 'main', $3, 'clone', 'clone-template', 1, 1, 'running')`,
      [machine.stepId, machine.runId, batch.ownerId],
    );
    machines.push(machine);
  }
  return { id: batchId, machines };
}

export async function seedEvent(
  db: pg.Pool | pg.PoolClient,
  event: { batch: string; type?: string; state?: string },
): Promise<number> {
  const { rows } = await db.query<{ seq: string }>(
    `insert into events (type, batch, state) values ($1, $2, $3) returning seq`,
    [event.type ?? 'machine.state', event.batch, event.state ?? 'creating'],
  );
  return Number(rows[0]!.seq);
}
