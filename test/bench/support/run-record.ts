import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import pg from 'pg';
import { journalLineSchema, type JournalLine } from '../../../src/simulators/journal.js';

/** A step of one machine, in simulated milliseconds since the submit was accepted. */
export interface StepRecord {
  readonly vmid: number;
  readonly key: string;
  /** When the last step that it needs was done. */
  readonly dueMs: number;
  readonly claimedMs: number;
  readonly doneMs: number;
  readonly attempts: number;
}

/** One holding of a storage's lock, or one that asked in vain (`gotMs` undefined). */
export interface LockRecord {
  readonly askedMs: number;
  readonly gotMs: number | undefined;
  readonly endedMs: number;
}

export interface TaskRecord {
  readonly vmid: number;
  readonly op: string;
  readonly startedMs: number;
  readonly endedMs: number;
  readonly verdict: string;
}

/** What happened during a batch, told by the database and by the simulated systems' journal, on one clock. */
export interface RunRecord {
  /** In the order of the roster. */
  readonly machines: readonly { readonly id: string; readonly vmid: number; readonly node: string }[];
  readonly steps: readonly StepRecord[];
  /** Of the storage that was locked longest in all. */
  readonly lock: readonly LockRecord[];
  readonly tasks: readonly TaskRecord[];
  /** Calls of Proxmox VE by kind. */
  readonly calls: Readonly<Record<string, number>>;
  readonly winrmCommands: number;
  /** Locks of any kind that somebody asked for in vain. */
  readonly lockTimeouts: number;
}

export interface RecordOptions {
  readonly journal: string;
  readonly postgresUrl: string;
  readonly batch: string;
  readonly timeScale: number;
  /** `process.hrtime.bigint()` before the submit and at the end: what is recorded. */
  readonly fromNs: bigint;
  /** When the submit was accepted: from here times count. */
  readonly zeroNs: bigint;
  readonly toNs: bigint;
}

export async function recordRun(options: RecordOptions): Promise<RunRecord> {
  const { zeroNs, timeScale } = options;
  const lines = await journalBetween(options.journal, options.fromNs, options.toNs);
  const simMs = (ns: bigint): number => Number(ns - zeroNs) / 1e6 / timeScale;
  // The database has the wall clock, the journal the monotonic one; both are of this host.
  const monotonicAheadNs = process.hrtime.bigint() - BigInt(Math.round(Date.now() * 1e6));
  const fromWall = (epochMs: number): number => simMs(BigInt(Math.round(epochMs * 1e6)) + monotonicAheadNs);
  const { machines, rows } = await readRows(options);
  const requests = lines.filter(({ event }) => event === 'request');
  // Several requests to a node over SSH may be one conversation.
  const proxmox = requests.filter(
    ({ sim, params }) => sim === 'proxmox' && params?.['sameConversation'] !== true,
  );
  return {
    machines,
    steps: rows.map((row) => ({
      vmid: row.vmid,
      key: row.key,
      dueMs: fromWall(row.due_ms),
      claimedMs: fromWall(row.claimed_ms),
      doneMs: fromWall(row.done_ms),
      attempts: row.attempts,
    })),
    lock: busiestLock(lines, simMs),
    tasks: tasksOf(lines, simMs),
    calls: countBy(proxmox.map(({ op }) => op ?? 'unknown')),
    winrmCommands: requests.filter(({ op }) => op === 'winrm.command').length,
    lockTimeouts: lines.filter(({ event, effect }) => event === 'hold' && effect === false).length,
  };
}

async function journalBetween(file: string, fromNs: bigint, toNs: bigint): Promise<JournalLine[]> {
  const lines: JournalLine[] = [];
  for await (const text of createInterface({ input: createReadStream(file, { encoding: 'utf8' }) })) {
    const line = journalLineSchema.parse(JSON.parse(text));
    const ns = BigInt(line.ns);
    if (ns >= fromNs && ns <= toNs) lines.push(line);
  }
  return lines;
}

interface Row {
  readonly vmid: number;
  readonly key: string;
  readonly due_ms: number;
  readonly claimed_ms: number;
  readonly done_ms: number;
  readonly attempts: number;
}

async function readRows({ postgresUrl, batch }: RecordOptions) {
  const client = new pg.Client({ connectionString: postgresUrl });
  await client.connect();
  try {
    const machines = await client.query<{ id: string; vmid: number; node: string }>(
      'select id, vmid, node from machines where batch_id = $1 order by row',
      [batch],
    );
    const steps = await client.query<Row>(
      `select m.vmid, s.key,
              extract(epoch from coalesce(n.finished_at, r.created_at))::float8 * 1000 as due_ms,
              extract(epoch from s.first_claimed_at)::float8 * 1000 as claimed_ms,
              extract(epoch from s.finished_at)::float8 * 1000 as done_ms,
              (select count(*)::int from attempts a where a.step_id = s.id) as attempts
         from steps s
         join runs r on r.id = s.run_id
         join machines m on m.id = r.machine_id
         join workflow_versions w on w.id = r.workflow_version_id
         left join lateral (
           select max(needed.finished_at) as finished_at
             from jsonb_array_elements(w.plan -> 'steps') planned,
                  jsonb_array_elements_text(planned -> 'needs') need
             join steps needed on needed.run_id = s.run_id and needed.key = need
            where planned ->> 'key' = s.key) n on true
        where r.batch_id = $1 and s.state = 'done' and s.first_claimed_at is not null`,
      [batch],
    );
    return { machines: machines.rows, rows: steps.rows };
  } finally {
    await client.end();
  }
}

/** Of the shared storage that was locked longest in all: the locks of local ones are in the journal only when somebody had to wait. */
function busiestLock(lines: readonly JournalLine[], simMs: (ns: bigint) => number): LockRecord[] {
  const byName = new Map<string, LockRecord[]>();
  for (const { event, op, resource = '', ns, waitMs = 0, holdMs, effect } of lines) {
    if (event !== 'hold' || op !== 'lock.cluster' || !resource.startsWith('storage-')) continue;
    const endedMs = simMs(BigInt(ns));
    const gotMs = effect === true ? endedMs - (holdMs ?? 0) : undefined;
    const record = { askedMs: (gotMs ?? endedMs) - waitMs, gotMs, endedMs };
    byName.set(resource, [...(byName.get(resource) ?? []), record]);
  }
  const held = (records: readonly LockRecord[]): number =>
    records.reduce((sum, { gotMs, endedMs }) => sum + endedMs - (gotMs ?? endedMs), 0);
  return [...byName.values()].toSorted((a, b) => held(b) - held(a))[0] ?? [];
}

function tasksOf(lines: readonly JournalLine[], simMs: (ns: bigint) => number): TaskRecord[] {
  const startedMs = new Map<string, number>();
  const tasks: TaskRecord[] = [];
  for (const { event, upid = '', ns, op = '', vmid = 0, params } of lines) {
    if (event === 'task-start') startedMs.set(upid, simMs(BigInt(ns)));
    const begun = startedMs.get(upid);
    if (event !== 'task-end' || begun === undefined) continue;
    const verdict = String(params?.['verdict']);
    tasks.push({ vmid, op, startedMs: begun, endedMs: simMs(BigInt(ns)), verdict });
  }
  return tasks;
}

function countBy(values: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return Object.fromEntries(Object.entries(counts).toSorted(([, a], [, b]) => b - a));
}
