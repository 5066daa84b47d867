import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import type { Cluster, Redis } from 'ioredis';
import { DataSource } from 'typeorm';
import type { z } from 'zod';
import { errorRecord, type ErrorCode } from '../../core/errors.js';
import { remedyOf } from '../../core/remedies.js';
import type { CheckedService } from '../../ports/checked-service.js';
import { plainCall } from '../../ports/call.js';
import type { ClusterStops } from '../../ports/cluster-stops.js';
import type { CheckFinding, Hypervisors, IntendedUse } from '../../ports/hypervisor.js';
import type { Locks } from '../../ports/locks.js';
import type { AppContext } from '../context.js';
import type { DoctorFinding } from '../dto/admin.dto.js';
import { CLUSTER_STOPS, CONTEXT, HYPERVISORS, LOCKS, REDIS, SERVICES, USE_OF } from '../tokens.js';

type Finding = z.infer<typeof DoctorFinding>;
type Verdict = Finding['verdict'];

const STORE_MS = 5_000;
const REMOTE_MS = 60_000;
/** The relay, the sweeper and the dispatcher look at least every second: what waits longer than this is not looked at. */
const LATE_S = 30;
const LOST_S = 300;
/** An attempt in hand, and a place in a line, after which somebody should look. */
const LONG_S = 3_600;
const SKEW_WARNING_MS = 2_000;
const SKEW_FAILED_MS = 30_000;
const WORDS: Readonly<Record<Verdict, number>> = { failed: 0, warning: 1, ok: 2 };

/** Looks at everything that has to work for machines to be made. Each look has its own time-out, and one that fails is a finding. */
@Injectable()
export class Doctor {
  constructor(
    @InjectDataSource() private readonly source: DataSource,
    @Inject(REDIS) private readonly redis: Redis | Cluster,
    @Inject(CONTEXT) private readonly context: AppContext,
    @Inject(HYPERVISORS) private readonly hypervisors: Hypervisors,
    @Inject(SERVICES) private readonly services: readonly CheckedService[],
    @Inject(USE_OF) private readonly useOf: (cluster: string) => Promise<IntendedUse>,
    @Inject(CLUSTER_STOPS) private readonly stops: ClusterStops,
    @Inject(LOCKS) private readonly locks: Pick<Locks, 'held'>,
  ) {}

  /** What is worst comes first. */
  async look(): Promise<Finding[]> {
    const { clusters } = this.context.site;
    const looks: [check: string, ms: number, look: (signal: AbortSignal) => Promise<Finding[]>][] = [
      ['postgres', STORE_MS, () => this.postgres()],
      ['redis', STORE_MS, () => this.askRedis()],
      ['workers', STORE_MS, () => this.workers()],
      ['sweeps', STORE_MS, () => this.sweeps()],
      ['dispatchers', STORE_MS, () => this.dispatchers()],
      ['runs', STORE_MS, () => this.runs()],
      ['parked machines', STORE_MS, () => this.parked()],
      ...clusters.map(
        ({ definition: { name } }) =>
          [`cluster ${name}`, REMOTE_MS, (signal: AbortSignal) => this.cluster(name, signal)] as [
            string,
            number,
            (signal: AbortSignal) => Promise<Finding[]>,
          ],
      ),
      ...this.services.map(
        (service) =>
          [
            `${service.kind} ${service.name}`,
            REMOTE_MS,
            (signal: AbortSignal) => checked(service, signal),
          ] as [string, number, (signal: AbortSignal) => Promise<Finding[]>],
      ),
    ];
    const findings = await Promise.all(looks.map(([check, ms, look]) => inTime(check, ms, look)));
    return findings.flat().toSorted((a, b) => WORDS[a.verdict] - WORDS[b.verdict]);
  }

  private async postgres(): Promise<Finding[]> {
    const before = Date.now();
    const [row] = await this.source.query<{ now: number; version: string; is_replica: boolean }[]>(
      `select ms(clock_timestamp()) as now, current_setting('server_version') as version, pg_is_in_recovery() as is_replica`,
    );
    const after = Date.now();
    const { now, version, is_replica: isReplica } = row!;
    const skewMs = Math.abs(now - (before + after) / 2);
    const store: Finding = isReplica
      ? failed(
          'postgres',
          'it is a replica that cannot be written to',
          'Point DATABASE_URL to the primary, then start the service again.',
        )
      : ok('postgres', `version ${version}, answered in ${after - before} ms`);
    const detail = `the database and this process differ by ${(skewMs / 1000).toFixed(1)} s`;
    const remedy =
      'Mend the clocks (chronyc tracking). Work goes by the database’s clock; what people read does not.';
    if (skewMs > SKEW_FAILED_MS) return [store, failed('clock', detail, remedy)];
    return [store, skewMs > SKEW_WARNING_MS ? warning('clock', detail, remedy) : ok('clock', detail)];
  }

  private async askRedis(): Promise<Finding[]> {
    const { redisPrefix } = this.context.stores;
    const before = Date.now();
    // A key of ours: any node of a cluster answers a PING, also when nobody serves our keys.
    await this.redis.exists(`${redisPrefix}:locks`);
    const tookMs = Date.now() - before;
    const info = await this.redis.info();
    const of = (name: string): string | undefined => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1];
    const policy = of('maxmemory_policy');
    const keeps = of('aof_enabled') === '1' ? 'append-only file' : 'snapshots at most';
    if (policy !== undefined && policy !== 'noeviction')
      return [
        failed(
          'redis',
          `its eviction policy is ${policy}: it may throw away the queue`,
          'redis-cli config set maxmemory-policy noeviction, and the same in its configuration.',
        ),
      ];
    return [
      ok(
        'redis',
        `version ${of('redis_version') ?? 'unknown'}, answered in ${tookMs} ms, eviction ${policy ?? 'not shown'}, keeps ${keeps} (losing it costs time only)`,
      ),
    ];
  }

  private async workers(): Promise<Finding[]> {
    const rows = await this.source.query<{ host: string; pid: number; versions: string; late: number }[]>(
      `select host, pid, step_versions::text as versions, extract(epoch from clock_timestamp() - lease_until)::float8 as late
         from workers where stopped_at is null order by id`,
    );
    const alive = rows.filter(({ late }) => late <= 0);
    const unburied = rows.filter(({ late }) => late > LATE_S);
    const builds = new Set(alive.map(({ versions }) => versions)).size;
    const first =
      alive.length === 0
        ? failed(
            'workers',
            'none is alive: nothing is made or undone',
            'Start one: HATCHERY_ROLE=worker (or all).',
          )
        : builds > 1
          ? warning(
              'workers',
              `${alive.length} are alive, of ${builds} builds: as during a roll forward or back`,
              'Finish the roll. Steps that only the other build knows wait for it: hatchery admin workers',
            )
          : ok('workers', `${alive.length} alive, all of one build`);
    return unburied.length === 0
      ? [first]
      : [
          first,
          failed(
            'sweeper',
            `${unburied.length} workers are dead for more than ${LATE_S} s, and nobody takes their steps over`,
            'No process sweeps: look at the logs of the APIs and the workers for "a caretaker round failed".',
          ),
        ];
  }

  private async sweeps(): Promise<Finding[]> {
    const [row] = await this.source.query<{ count: number; late: number | null; unclaimed: number }[]>(
      `select (select count(*)::int from outbox where due_at <= clock_timestamp() and kind <> 'notify') as count,
              (select extract(epoch from clock_timestamp() - min(created_at))::float8 from outbox where due_at <= clock_timestamp() and kind <> 'notify') as late,
              (select count(*)::int from steps s where s.state in ('ready', 'undoing') and s.worker_id is null and s.slots is null
                  and s.due_at < clock_timestamp() - $1 * interval '1 second'
                  and not exists (select 1 from cluster_stops c where c.cluster = s.cluster)) as unclaimed`,
      [LATE_S],
    );
    const { count, late, unclaimed } = row!;
    const lateS = Math.max(0, late ?? 0);
    const detail = `${count} due entries, the oldest since ${Math.round(lateS)} s`;
    const remedy =
      'The relay hands them to the queue each second: look at Redis above, and at the logs for "a caretaker round failed".';
    const outbox =
      lateS > LOST_S
        ? failed('outbox', detail, remedy)
        : lateS > LATE_S
          ? warning('outbox', detail, remedy)
          : ok('outbox', detail);
    const sweep =
      unclaimed === 0
        ? ok('sweeps', 'no due step waits longer than it should')
        : warning(
            'sweeps',
            `${unclaimed} steps are due for more than ${LATE_S} s and no worker took them`,
            'Too few workers, or all are busy: hatchery admin workers shows how much each holds.',
          );
    return [outbox, sweep];
  }

  /** One process at a time gives the slots of a cluster; without one, nobody gets any. */
  private async dispatchers(): Promise<Finding[]> {
    const held = new Map((await this.locks.held()).map((lock) => [lock.name, lock]));
    return this.context.site.clusters.map(({ definition: { name } }) => {
      const lock = held.get(`dispatcher:${name}`);
      return lock === undefined
        ? warning(
            `dispatcher of ${name}`,
            'no process has the lock now',
            'One takes it within seconds; if this stays, look at Redis and at the logs.',
          )
        : ok(`dispatcher of ${name}`, lock.holder);
    });
  }

  private async runs(): Promise<Finding[]> {
    const rows = await this.source.query<
      { run: string; key: string; machine: string; why: string; s: number }[]
    >(
      `select r.id as run, s.key, m.name as machine, case when s.worker_id is null then 'waits for a slot' else 'is in one attempt' end as why,
              extract(epoch from clock_timestamp() - coalesce(s.claimed_at, s.due_at))::float8 as s
         from steps s join runs r on r.id = s.run_id join machines m on m.id = r.machine_id
        where (s.worker_id is not null and s.claimed_at < clock_timestamp() - $1 * interval '1 second')
           or (s.worker_id is null and s.slots is not null and not s.is_gathering and s.state in ('ready', 'undoing')
               and s.due_at < clock_timestamp() - $1 * interval '1 second' and not exists (select 1 from cluster_stops c where c.cluster = s.cluster))
        order by s desc limit 6`,
      [LONG_S],
    );
    if (rows.length === 0) return [ok('runs', 'none stands still without a reason')];
    return rows
      .slice(0, 5)
      .map(({ run, key, machine, why, s }) =>
        warning(
          `run of ${machine}`,
          `step ${key} ${why} for ${Math.round(s / 60)} minutes`,
          `hatchery run show ${run}`,
        ),
      );
  }

  private async parked(): Promise<Finding[]> {
    const rows = await this.source.query<{ code: ErrorCode; count: number; batches: string[] }[]>(
      `select m.error ->> 'code' as code, count(*)::int as count, (array_agg(distinct b.name))[1:3] as batches
         from machines m join batches b on b.id = m.batch_id where m.state = 'parked' group by 1 order by 2 desc`,
    );
    if (rows.length === 0) return [ok('parked machines', 'none')];
    return rows.map(({ code, count, batches }) => {
      const { explanation, advice } = remedyOf(code);
      return warning(
        `parked: ${code}`,
        `${count} ${count === 1 ? 'machine' : 'machines'} (${batches.join(', ')}). ${explanation}`,
        `${advice} hatchery run list --state parked --code ${code}`,
      );
    });
  }

  private async cluster(name: string, signal: AbortSignal): Promise<Finding[]> {
    const [findings, stops] = await Promise.all([
      this.hypervisors.get(name).check(await this.useOf(name), plainCall(signal)),
      this.stops.of(name),
    ]);
    const check = `cluster ${name}`;
    const paused = stops.map(({ code, message, hint }) =>
      code === 'cluster-paused'
        ? warning(check, message, `hatchery cluster resume ${name}`)
        : failed(check, message, hint ?? `hatchery cluster check ${name}`),
    );
    return [
      ...paused,
      ...summed(check, findings, `${findings.length} checks (hatchery cluster check ${name})`),
    ];
  }
}

async function checked(service: CheckedService, signal: AbortSignal): Promise<Finding[]> {
  const findings = await service.check(plainCall(signal));
  const check = `${service.kind} ${service.name}`;
  return summed(check, findings, findings.map(({ detail }) => detail).join(', '));
}

/** One line when all is well, else one for each that is not. */
function summed(check: string, findings: readonly CheckFinding[], well: string): Finding[] {
  const notWell = findings.filter((finding) => !finding.ok || finding.warning === true);
  if (notWell.length === 0) return [ok(check, well)];
  return notWell.map((finding) => {
    const detail = `${finding.subject}: ${finding.detail}`;
    const remedy = finding.remedy ?? 'See what its own logs say.';
    return finding.ok ? warning(check, detail, remedy) : failed(check, detail, remedy);
  });
}

async function inTime(
  check: string,
  ms: number,
  look: (signal: AbortSignal) => Promise<Finding[]>,
): Promise<Finding[]> {
  const signal = AbortSignal.timeout(ms);
  const late = new Promise<Finding[]>((resolve) =>
    signal.addEventListener('abort', () =>
      resolve([
        failed(check, `no answer within ${ms / 1000} s`, 'See that it runs and can be reached from here.'),
      ]),
    ),
  );
  const answer = look(signal).catch((error: unknown) => {
    const { message, hint } = errorRecord(error);
    return [failed(check, message, hint ?? 'See that it runs and can be reached from here.')];
  });
  return Promise.race([answer, late]);
}

const ok = (check: string, detail: string): Finding => ({ check, verdict: 'ok', detail, remedy: null });
const warning = (check: string, detail: string, remedy: string): Finding => ({
  check,
  verdict: 'warning',
  detail,
  remedy,
});
const failed = (check: string, detail: string, remedy: string): Finding => ({
  check,
  verdict: 'failed',
  detail,
  remedy,
});
