import { storageKey } from '../../core/placement.js';
import { loginKey } from '../../core/roster/cells.js';
import { HatcheryError } from '../../core/errors.js';
import type {
  BatchHead,
  BatchStore,
  FailedMachine,
  IdempotentRequest,
  NewMachine,
  Promises,
} from '../../ports/batch-store.js';
import { constraintOf, type Database, type Queries } from './database.js';

type AcceptRequest = Parameters<BatchStore['accept']>[0];

/** Of an accept that met another one on a name or a person. */
const MAX_REPEATS = 5;

/** Whoever reads after the answer sees that the machines of `gone` are leaving, before a worker has looked at their runs. */
const LEAVING = `leaving as (
           update machines m set state = 'deleting' from gone where m.id = gone.machine_id and m.state not in ('deleting', 'deleted')
           returning m.id, gone.id as run_id, gone.batch_id),
         told as (
           insert into events (type, batch, machine, run, state) select 'machine.state', batch_id, id, run_id, 'deleting' from leaving)`;

/** What people ask of batches, in Postgres. The number of statements never depends on the number of machines. */
export class PostgresBatchStore implements BatchStore {
  constructor(private readonly database: Database) {}

  async findBatch(batch: string, ownerId: string | undefined): Promise<BatchHead | undefined> {
    const isId = /^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(batch);
    const [row] = await this.database.query<BatchHead>(
      `select b.id, b.name, b.owner_id as "ownerId", v.name as blueprint, v.version as "blueprintVersion", b.cluster, b.deleted_at is not null as "isDeleted"
         from batches b join blueprint_versions v on v.id = b.blueprint_version_id
        where ${isId ? 'b.id = $1' : 'b.name = $1'} and ($2::uuid is null or b.owner_id = $2)
        order by b.deleted_at is not null, b.id desc limit 1`,
      [batch, ownerId ?? null],
    );
    return row;
  }

  async replay(request: IdempotentRequest): Promise<string | undefined> {
    return replayOf(this.database, request);
  }

  async promises(cluster: string, blueprint: string): Promise<Promises> {
    return readPromises(this.database, cluster, blueprint);
  }

  async accept(
    request: AcceptRequest,
    compose: (promises: Promises) => readonly NewMachine[],
  ): Promise<{ batchId: string; replayed: boolean }> {
    for (let repeats = 0; ; repeats += 1)
      try {
        return await this.database.transaction((queries) => acceptIn(queries, request, compose));
      } catch (error) {
        // Names and people are one for all clusters, but the lock is each cluster's own: look again at what is promised now.
        if (constraintOf(error) === 'reservations_pkey' && repeats < MAX_REPEATS) continue;
        if (constraintOf(error) !== 'batches_name' || 'existing' in request.batch) throw error;
        throw new HatcheryError(
          'name-taken',
          `Unable to create batch ${request.batch.name}: a batch of this name exists`,
          {
            hint: 'Choose another name, or delete that batch first.',
            cause: error,
          },
        );
      }
  }

  async wantBatchGone(batch: BatchHead, actor: string, onlyIfSettled: boolean): Promise<void> {
    await this.database.transaction(async (queries) => {
      // The runs in one order and never the batch, which a step that settles its machine locks after its run.
      const runs = await queries.query<{ id: string }>(
        `select r.id from machines m join runs r on r.machine_id = m.id
          where m.batch_id = $1 and m.state <> 'deleted' and r.id = (select max(id::text)::uuid from runs where machine_id = m.id)
          order by r.id for update of r`,
        [batch.id],
      );
      if (onlyIfSettled) {
        const [busy] = await queries.query<{ count: number }>(
          `select count(*)::int as count from machines m join runs r on r.machine_id = m.id
            where r.id = any ($1::uuid[]) and m.state in ('reserved', 'creating')`,
          [runs.map((run) => run.id)],
        );
        if (busy!.count > 0)
          throw new HatcheryError(
            'batch-busy',
            `Unable to delete batch ${batch.name}: ${busy!.count} of its machines are still being created`,
            {
              hint: `Wait for the end, or stop and undo it: hatchery batch cancel ${batch.name}`,
              facts: { creating: busy!.count },
            },
          );
      }
      await queries.query(
        `with gone as (
           update runs set wanted = 'gone', undo_ends_as = 'cancelled' where id = any ($1::uuid[]) returning id, batch_id, machine_id),
         ${LEAVING}
         insert into outbox (kind, payload) select 'advance', jsonb_build_object('runId', id) from gone`,
        [runs.map((run) => run.id)],
      );
      await writeAudit(queries, actor, onlyIfSettled ? 'batch.delete' : 'batch.cancel', batch.name, {
        batch: batch.id,
      });
    });
  }

  async findMachine(
    machineId: string,
    ownerId: string | undefined,
  ): Promise<{ id: string; batchId: string; runId: string; name: string; state: string } | undefined> {
    const [row] = await this.database.query<{
      id: string;
      batchId: string;
      runId: string;
      name: string;
      state: string;
    }>(
      `select m.id, m.batch_id as "batchId", r.id as "runId", m.name, m.state from machines m join runs r on r.machine_id = m.id
        where m.id = $1 and ($2::uuid is null or m.owner_id = $2) order by r.id desc limit 1`,
      [machineId, ownerId ?? null],
    );
    return row;
  }

  async wantMachineGone(machine: { id: string; name: string; runId: string }, actor: string): Promise<void> {
    await this.database.transaction(async (queries) => {
      await queries.query(
        `with gone as (
           update runs set wanted = 'gone', undo_ends_as = 'cancelled' where id = $1 returning id, batch_id, machine_id),
         ${LEAVING}
         insert into outbox (kind, payload) select 'advance', jsonb_build_object('runId', id) from gone`,
        [machine.runId],
      );
      await writeAudit(queries, actor, 'machine.delete', machine.name, { machine: machine.id });
    });
  }

  async findRun(runId: string, ownerId: string | undefined): ReturnType<BatchStore['findRun']> {
    const [row] = await this.database.query<{ id: string; batchId: string }>(
      `select r.id, r.batch_id as "batchId" from runs r join machines m on m.id = r.machine_id where r.id = $1 and ($2::uuid is null or m.owner_id = $2)`,
      [runId, ownerId ?? null],
    );
    return row;
  }

  async parkedRuns(batchId: string, code: string | undefined): Promise<readonly string[]> {
    const rows = await this.database.query<{ id: string }>(
      `select r.id from machines m join runs r on r.machine_id = m.id and r.finished_at is null
        where m.batch_id = $1 and m.state = 'parked' and ($2::text is null or m.error ->> 'code' = $2) order by m.row, m.id`,
      [batchId, code ?? null],
    );
    return rows.map(({ id }) => id);
  }

  async failedOf(
    batchId: string,
    { code, runId }: { readonly code?: string | undefined; readonly runId?: string },
  ): Promise<readonly FailedMachine[]> {
    const rows = await this.database.query<FailedSql>(
      `select r.id as run, m.row, m.login, m.last_name, m.first_name, m.email, m.group_name, r.inputs #> '{machine,user,sshKeys}' as keys
         from machines m join runs r on r.machine_id = m.id and r.state = 'failed'
        where m.batch_id = $1 and m.state = 'failed' and ($2::text is null or m.error ->> 'code' = $2) and ($3::uuid is null or r.id = $3)
        order by m.row, m.id`,
      [batchId, code ?? null, runId ?? null],
    );
    return rows.map((row) => ({
      runId: row.run,
      row: {
        row: row.row,
        login: row.login,
        loginKey: loginKey(row.login),
        lastName: row.last_name,
        firstName: row.first_name,
        ...(row.email !== null && { email: row.email }),
        ...(row.group_name !== null && { group: row.group_name }),
        sshKeys: row.keys ?? [],
      },
    }));
  }

  async lastRunOf(batchId: string, login: string): Promise<string | undefined> {
    const [row] = await this.database.query<{ id: string }>(
      `select r.id from machines m join runs r on r.machine_id = m.id where m.batch_id = $1 and m.login = $2 order by r.id desc limit 1`,
      [batchId, login],
    );
    return row?.id;
  }

  async unshown(batch: BatchHead): ReturnType<BatchStore['unshown']> {
    return this.database.query(
      `select m.login, m.name as machine, r.inputs -> 'machine' -> 'user' ->> 'name' as "user", s.id as ref
         from secrets s join machines m on m.id = s.machine_id join runs r on r.machine_id = m.id and r.state = 'done'
        where m.batch_id = $1 and m.state = 'ready' and s.purpose = 'password' and s.shown_at is null order by m.row`,
      [batch.id],
    );
  }

  async markShown(batch: BatchHead, refs: readonly string[], actor: string): Promise<ReadonlySet<string>> {
    return this.database.transaction(async (queries) => {
      const rows = await queries.query<{ id: string }>(
        'update secrets set shown_at = now() where id = any ($1::uuid[]) and shown_at is null returning id',
        [refs],
      );
      if (rows.length > 0)
        await writeAudit(queries, actor, 'batch.credentials', batch.name, {
          batch: batch.id,
          shown: rows.length,
        });
      return new Set(rows.map((row) => row.id));
    });
  }
}

interface FailedSql {
  readonly run: string;
  readonly row: number;
  readonly login: string;
  readonly last_name: string;
  readonly first_name: string;
  readonly email: string | null;
  readonly group_name: string | null;
  readonly keys: string[] | null;
}

async function acceptIn(
  queries: Queries,
  request: AcceptRequest,
  compose: (promises: Promises) => readonly NewMachine[],
): Promise<{ batchId: string; replayed: boolean }> {
  const { idempotency } = request;
  if (idempotency) {
    const [lock] = await queries.query<{ taken: boolean }>(
      `select pg_try_advisory_xact_lock(hashtextextended($1, 0)) as taken`,
      [`key:${idempotency.userId}:${idempotency.route}:${idempotency.key}`],
    );
    if (!lock!.taken)
      throw new HatcheryError(
        'idempotency-in-progress',
        `Unable to answer yet: the same request with key ${idempotency.key} is still being handled`,
        {
          hint: 'Send the same request again in a moment.',
        },
      );
    const known = await replayOf(queries, idempotency);
    if (known !== undefined) return { batchId: known, replayed: true };
  }
  if (request.replaces) await takeAwayFailed(queries, request.replaces);
  await queries.query(`select pg_advisory_xact_lock(hashtextextended('vmid:' || $1, 0))`, [request.cluster]);
  await queries.query('delete from reservations where rest_until <= now()');
  const machines = compose(await readPromises(queries, request.cluster, request.blueprint));
  const batchId = await writeBatch(queries, request);
  await writeMachines(queries, request, batchId, machines);
  await writeRuns(queries, request, batchId, machines);
  await writeAudit(
    queries,
    request.actor,
    auditActionOf(request),
    'existing' in request.batch ? request.batch.existing.name : request.batch.name,
    { batch: batchId, machines: machines.length },
  );
  if (idempotency)
    await queries.query(
      `insert into idempotency_keys (user_id, route, key, payload_hash, status, answer) values ($1, $2, $3, $4, 202, jsonb_build_object('batchId', $5::uuid))`,
      [idempotency.userId, idempotency.route, idempotency.key, idempotency.hash, batchId],
    );
  return { batchId, replayed: false };
}

const auditActionOf = ({ batch, replaces }: AcceptRequest): string => {
  if (replaces) return 'batch.retry';
  return 'existing' in batch ? 'batch.add' : 'batch.create';
};

/** What has failed is clean: its rows become those of a deleted machine, and others come in its place. */
async function takeAwayFailed(queries: Queries, runIds: readonly string[]): Promise<void> {
  const failed = await queries.query(
    `select r.id from runs r join machines m on m.id = r.machine_id
      where r.id = any ($1::uuid[]) and r.state = 'failed' and m.state = 'failed' order by r.id for update of r`,
    [runIds],
  );
  if (failed.length < runIds.length)
    throw new HatcheryError(
      'not-applicable',
      `Unable to make ${runIds.length} machines anew: ${runIds.length - failed.length} of them are no longer failed`,
      { hint: 'Somebody was faster. Look at the batch again, then repeat it for what is left.' },
    );
  await queries.query(
    `with gone as (
       update runs set wanted = 'gone', undo_ends_as = 'cancelled' where id = any ($1::uuid[]) returning id, batch_id, machine_id),
     ${LEAVING}
     insert into outbox (kind, payload) select 'advance', jsonb_build_object('runId', id) from gone`,
    [runIds],
  );
}

async function replayOf(queries: Queries, request: IdempotentRequest): Promise<string | undefined> {
  const [row] = await queries.query<{ payload_hash: string; batch: string }>(
    `select payload_hash, answer ->> 'batchId' as batch from idempotency_keys where user_id = $1 and route = $2 and key = $3`,
    [request.userId, request.route, request.key],
  );
  if (!row) return undefined;
  if (row.payload_hash === request.hash) return row.batch;
  throw new HatcheryError(
    'idempotency-mismatch',
    `Unable to accept the request: its Idempotency-Key ${request.key} was used for another one`,
    {
      hint: 'Use a new key for a new request.',
    },
  );
}

async function readPromises(queries: Queries, cluster: string, blueprint: string): Promise<Promises> {
  const reserved = await queries.query<{
    kind: string;
    value: string;
    is_resting: boolean;
    batch: string | null;
    owner_id: string | null;
  }>(
    `select r.kind, r.value, r.released_at is not null as is_resting, b.name as batch, b.owner_id
       from reservations r left join machines m on r.kind = 'person' and m.id = r.machine_id left join batches b on b.id = m.batch_id
      where (r.rest_until is null or r.rest_until > now())
        and ((r.kind = 'vmid' and r.scope = $1) or r.kind = 'name' or (r.kind = 'person' and r.scope = $2))`,
    [cluster, blueprint],
  );
  // A machine counts as unseen until its guest runs: a stopped or missing guest shows no memory use in the inventory.
  const unseen = await queries.query<{
    node: string;
    storage: string;
    storage_shared: boolean;
    memory: number;
    cores: number;
    disk: number;
    template: number | null;
  }>(
    `select m.node, r.inputs -> 'machine' ->> 'storage' as storage, coalesce(r.inputs #>> '{machine,storageShared}', r.inputs #>> '{machine,template,storageShared}')::boolean as storage_shared,
            (r.inputs -> 'machine' -> 'size' ->> 'memoryMiB')::int as memory, (r.inputs -> 'machine' -> 'size' ->> 'cores')::int as cores,
            (r.inputs -> 'machine' -> 'size' ->> 'diskGiB')::int as disk, (r.inputs #>> '{machine,template,vmid}')::int as template
       from machines m join runs r on r.machine_id = m.id and r.finished_at is null
      where m.cluster = $1 and m.state in ('reserved', 'creating')`,
    [cluster],
  );
  const of = (kind: string): typeof reserved => reserved.filter((row) => row.kind === kind);
  return {
    names: new Set(of('name').map((row) => row.value)),
    people: new Map(
      of('person').map((row) => [row.value, { batch: row.batch ?? '', ownerId: row.owner_id ?? '' }]),
    ),
    vmids: new Set(of('vmid').flatMap((row) => (row.is_resting ? [] : [Number(row.value)]))),
    restingVmids: new Set(of('vmid').flatMap((row) => (row.is_resting ? [Number(row.value)] : []))),
    unseen: unseen.map((row) => ({
      node: row.node,
      storageKey: storageKey({ id: row.storage, node: row.node, shared: row.storage_shared }),
      memoryMiB: row.memory,
      cores: row.cores,
      diskGiB: row.disk,
      template: row.template ?? undefined,
    })),
  };
}

async function writeBatch(queries: Queries, request: AcceptRequest): Promise<string> {
  if ('existing' in request.batch) {
    const { id, name } = request.batch.existing;
    const open = await queries.query(
      'update batches set is_open = true, settled_at = null where id = $1 and deleted_at is null returning id',
      [id],
    );
    if (open.length === 0)
      throw new HatcheryError('not-applicable', `Unable to add machines to batch ${name}: it is deleted`, {
        hint: 'Create a new batch.',
      });
    return id;
  }
  const { id, name, notifyUrl } = request.batch;
  await queries.query(
    `insert into batches (id, name, owner_id, blueprint_version_id, workflow_version_id, cluster, notify_url) values ($1, $2, $3, $4, $5, $6, $7)`,
    [
      id,
      name,
      request.ownerId,
      request.blueprintVersionId,
      request.workflowVersion,
      request.cluster,
      notifyUrl ?? null,
    ],
  );
  return id;
}

async function writeMachines(
  queries: Queries,
  request: AcceptRequest,
  batchId: string,
  machines: readonly NewMachine[],
): Promise<void> {
  const rows = machines.map(({ id, row, vmid, input }) => ({
    id,
    row,
    login: input.owner.login,
    last: input.owner.lastName,
    first: input.owner.firstName,
    email: input.owner.email ?? null,
    grp: input.owner.group ?? null,
    name: input.name,
    vmid,
    mac: input.mac,
    node: input.node,
  }));
  await queries.query(
    `insert into machines (id, batch_id, owner_id, row, login, last_name, first_name, email, group_name, name, cluster, vmid, mac, node)
     select id, $2, $3, row, login, last, first, email, grp, name, $4, vmid, mac, node
       from jsonb_to_recordset($1) as m (id uuid, row int, login text, last text, first text, email text, grp text, name text, vmid int, mac text, node text)`,
    [JSON.stringify(rows), batchId, request.ownerId, request.cluster],
  );
  const reservations = machines.flatMap(({ id, loginKey, vmid, input }) => [
    { kind: 'vmid', scope: request.cluster, value: String(vmid), machine: id },
    { kind: 'mac', scope: '', value: input.mac, machine: id },
    { kind: 'name', scope: '', value: input.name, machine: id },
    { kind: 'person', scope: request.blueprint, value: loginKey, machine: id },
  ]);
  await queries.query(
    `insert into reservations (kind, scope, value, machine_id)
     select kind, scope, value, machine from jsonb_to_recordset($1) as r (kind text, scope text, value text, machine uuid)`,
    [JSON.stringify(reservations)],
  );
}

async function writeRuns(
  queries: Queries,
  request: AcceptRequest,
  batchId: string,
  machines: readonly NewMachine[],
): Promise<void> {
  await queries.query(
    `insert into runs (id, machine_id, batch_id, workflow_version_id, inputs)
     select id, machine, $2, $3, inputs from jsonb_to_recordset($1) as r (id uuid, machine uuid, inputs jsonb)`,
    [
      JSON.stringify(
        machines.map(({ id, runId, input }) => ({ id: runId, machine: id, inputs: { machine: input } })),
      ),
      batchId,
      request.workflowVersion,
    ],
  );
  const steps = machines.flatMap(({ runId, steps: own }) =>
    own.map((step) => ({
      id: step.id,
      run: runId,
      key: step.key,
      uses: step.uses,
      version: step.version,
      state: step.state,
      rank: step.rank,
      is_due: step.dueAtMs !== undefined,
      slots: step.slots ?? null,
      group_key: step.groupKey ?? null,
      is_gathering: step.isGathering,
      dispatch: step.dispatch,
      input: step.input ?? null,
    })),
  );
  await queries.query(
    `insert into steps (id, run_id, cluster, owner_id, key, uses, version, state, rank, due_at, slots, group_key, is_gathering, dispatch, dispatched_at, input)
     select id, run, $2, $3, key, uses, version, state, rank, case when is_due then clock_timestamp() end, slots, group_key, is_gathering, dispatch,
            case when dispatch > 0 then clock_timestamp() end, input
       from jsonb_to_recordset($1) as s (id uuid, run uuid, key text, uses text, version int, state text, rank int, is_due boolean, slots text[], group_key text, is_gathering boolean, dispatch int, input jsonb)`,
    [JSON.stringify(steps), request.cluster, request.ownerId],
  );
  const dispatches = machines.flatMap(({ changes }) =>
    changes.dispatches.map(({ stepId, number }) => ({ stepId, number })),
  );
  await queries.query(
    `insert into outbox (kind, payload) select 'dispatch', to_jsonb(d) from jsonb_to_recordset($1) as d ("stepId" uuid, number int)`,
    [JSON.stringify(dispatches)],
  );
  await queries.query(
    `insert into events (type, batch, machine, run, state)
     select 'machine.state', $2, machine, run, 'reserved' from jsonb_to_recordset($1) as e (machine uuid, run uuid)`,
    [JSON.stringify(machines.map(({ id, runId }) => ({ machine: id, run: runId }))), batchId],
  );
}

async function writeAudit(
  queries: Queries,
  actor: string,
  action: string,
  subject: string,
  detail: object,
): Promise<void> {
  await queries.query('insert into audit (actor, action, subject, detail) values ($1, $2, $3, $4)', [
    actor,
    action,
    subject,
    JSON.stringify(detail),
  ]);
}
