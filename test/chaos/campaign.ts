import { createWriteStream, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { parse } from 'yaml';
import { checkJournal } from '../../src/simulators/journal/check.js';
import type { JournalVerdict } from '../../src/simulators/journal/verdict.js';
import { actionsOf, batchesOf, type Action, type Schedule } from '../../src/simulators/schedule.js';
import { RandomStream } from '../../src/simulators/seed.js';
import type { FleetProcess } from './fleet.js';
import { bereavements, DatabaseWatch, forgottenRuns, movingRuns, type GoneOn } from './watch.js';
import { accountOf, startChaosWorld, type ChaosWorld } from './world.js';

export interface CampaignOptions {
  readonly seed: string;
  readonly schedule: Schedule;
  /** Of these the batches are made, in turn. */
  readonly blueprints: readonly string[];
  readonly items: number;
  readonly workers: number;
  /** Instead of as many as the schedule counts. */
  readonly kills?: number | undefined;
  readonly timeScale: number;
  /** Where programs that the stores need are kept. */
  readonly stateFolder: string;
  /** Folder of another commit's build, with which the workers of a schedule that upgrades begin. */
  readonly older?: string | undefined;
  /** How long the same takes when nobody disturbs it: what the schedule's times are shares of. */
  readonly makespanMs: number;
  /** Longest time from the last action to the end. */
  readonly patienceMs?: number;
  readonly say?: (line: string) => void;
}

/** One thing that the runner did, on the journal's clock. */
export interface DoneAction {
  readonly ns: bigint;
  readonly text: string;
}

export interface Campaign {
  readonly options: CampaignOptions;
  readonly verdict: JournalVerdict;
  readonly folder: string;
  readonly journal: string;
  readonly done: readonly DoneAction[];
  readonly figures: Figures;
  /** What the runner itself saw go wrong. */
  readonly complaints: readonly string[];
  /** Removes what was kept. */
  remove(): Promise<void>;
}

export interface Figures {
  readonly items: number;
  /** Of the machines that nobody cancelled or deleted. */
  readonly shareReady: number;
  readonly states: Readonly<Record<string, number>>;
  readonly makespanMs: number;
  readonly afterLastActionMs: number;
  /** What was left to do after the last action takes about so long undisturbed. */
  readonly undisturbedRestMs: number;
  readonly proxmoxCalls: number;
  readonly kills: number;
  readonly killsLanded: number;
  /** From a worker's death until somebody else has its step. */
  readonly goneOn: readonly GoneOn[];
  /** From a kill until another worker is ready. */
  readonly replacedMs: readonly number[];
  /** From readiness after a restart of everything until every run is held or in a line, with the runs that were under way. */
  readonly restarts: readonly { readonly runs: number; readonly ms: number }[];
}

const PATIENCE_MS = 5 * 60_000;
const BUILD = join(process.cwd(), 'dist');
const AIM_MS = 3_000;
const POLL_MS = 20;

/** Makes a class while everything around it breaks as the seed says, until nothing moves any more, and has the journal judged. */
export async function runCampaign(options: CampaignOptions): Promise<Campaign> {
  const { say = () => undefined } = options;
  const { schedule, kills, ...size } = options;
  const actions = actionsOf(schedule, { ...size, ...(kills !== undefined && { kills }) });
  const count = (wanted: Action['do']): number => actions.filter(({ action }) => action.do === wanted).length;
  const batches = Math.max(batchesOf(schedule, options.items), options.blueprints.length);
  const world = await startChaosWorld({
    ...options,
    build: BUILD,
    firstBuild: count('upgrade') > 0 ? olderBuild(options) : undefined,
    starts:
      (1 + options.workers) * (1 + count('restart')) + count('kill') + count('upgrade') * options.workers,
  });
  const watch = new DatabaseWatch(world.postgres.url);
  try {
    const run = new Disturbance(world, watch, options);
    const startedAt = performance.now();
    await world.begin();
    const submits = await submitAll(world, options, batches);
    say(`${options.items} machines in ${batches} ${batches === 1 ? 'batch' : 'batches'} are accepted`);
    for (const { atMs, action } of actions) {
      const waitMs = atMs - (performance.now() - startedAt);
      if (waitMs > 0) await sleep(waitMs);
      await run.act(action, submits);
    }
    await run.settled();
    const lastActionAt = performance.now();
    const left = (await movingRuns(watch)) ?? options.items;
    const isOver = await untilOver(watch, say, options.patienceMs ?? PATIENCE_MS + options.makespanMs);
    const endedAt = performance.now();
    await world.calm();
    const files = await writeEvidence(world, submits);
    const gone = await bereavements(watch, run.kills);
    const states = await statesOf(watch, submits);
    const verdict = await checkJournal(world.journal, {
      ...files,
      work: {
        items: submits.reduce(
          (sum, { wanted, machines }) => sum + (wanted === 'ready' ? machines.length : 0),
          0,
        ),
        faults: schedule.faults.rules.map(({ id }) => id),
        kills: count('kill'),
        killsLanded: gone.filter(({ held }) => held > 0).length,
        deeds: Object.fromEntries(
          schedule.actors.map(({ who, everySeconds }, index) => [
            accountOf(who, index),
            (endedAt - startedAt) / 1_000 / everySeconds,
          ]),
        ),
      },
    });
    return {
      options,
      verdict,
      folder: world.folder,
      journal: world.journal,
      done: run.done,
      complaints: [
        ...run.complaints,
        ...world.fleet.ownEnds,
        ...(isOver ? [] : ['not every run came to its end']),
      ],
      figures: {
        items: options.items,
        states: states.all,
        shareReady: states.wanted === 0 ? 1 : states.wantedReady / states.wanted,
        makespanMs: endedAt - startedAt,
        afterLastActionMs: endedAt - lastActionAt,
        undisturbedRestMs: (left / options.items) * options.makespanMs,
        proxmoxCalls: verdict.counts.proxmoxRequests,
        kills: run.kills.length,
        killsLanded: gone.filter(({ held }) => held > 0).length,
        goneOn: gone.flatMap(({ goneOn }) => goneOn),
        replacedMs: run.replacedMs,
        restarts: run.restarts,
      },
      remove: () => world.close(false),
    };
  } finally {
    await watch.close();
    await world.close(true);
  }
}

interface Submit {
  readonly key: string;
  readonly batch: string;
  readonly machines: readonly string[];
  wanted: 'ready' | 'gone';
}

/** Each batch is sent twice at once under one key, as an impatient client does: it is one batch. */
async function submitAll(
  world: ChaosWorld,
  { items, blueprints }: CampaignOptions,
  batches: number,
): Promise<Submit[]> {
  const submits = Array.from({ length: batches }, (_, batch) => {
    const blueprint = blueprints[batch % blueprints.length]!;
    const nameFrom = namePatternOf(blueprint);
    const logins = Array.from(
      { length: Math.floor(items / batches) + (batch < items % batches ? 1 : 0) },
      (__, index) => `b${batch}s${index}`,
    );
    const name = `chaos-${batch}`;
    return {
      key: name,
      batch: name,
      blueprint,
      logins,
      machines: logins.map((login) => nameFrom.replace('{login}', login)),
      wanted: 'ready' as const,
    };
  });
  for (const { key, batch, blueprint, logins } of submits) {
    const form = (): FormData => {
      const data = new FormData();
      data.set('blueprint', blueprint);
      data.set('name', batch);
      const rows = logins.map((login) => `${login};Nom;Prénom\n`).join('');
      data.set('roster', new Blob([`login;nom;prénom\n${rows}`]), 'class.csv');
      return data;
    };
    const post = (): Promise<Response> => world.call('POST', '/api/v1/batches', { form, key });
    const answers = await Promise.all([post(), post()]);
    for (const answer of answers)
      if (answer.status !== 202) throw new Error(`Unable to submit ${batch}: ${await answer.text()}`);
  }
  return submits;
}

/** How a shipped blueprint names its machines. */
function namePatternOf(blueprint: string): string {
  const file = join(process.cwd(), 'blueprints', `${blueprint}.yaml`);
  return (parse(readFileSync(file, 'utf8')) as { nameFrom: string }).nameFrom;
}

/** Does the actions of a schedule, and remembers what it did. */
class Disturbance {
  readonly done: DoneAction[] = [];
  readonly kills: { pid: number; atMs: number }[] = [];
  readonly replacedMs: number[] = [];
  readonly restarts: { runs: number; ms: number }[] = [];
  readonly complaints: string[] = [];
  readonly #random: RandomStream;
  readonly #going = new Set<Promise<void>>();

  constructor(
    private readonly world: ChaosWorld,
    private readonly watch: DatabaseWatch,
    private readonly options: CampaignOptions,
  ) {
    this.#random = new RandomStream(`${options.seed}|victims`);
  }

  async act(action: Action, submits: readonly Submit[]): Promise<void> {
    const { world } = this;
    switch (action.do) {
      case 'kill':
        return this.#kill(action.aim);
      case 'stall':
        return this.#stall(action.ms);
      case 'flush':
        this.#note('FLUSHALL');
        return world.flush();
      case 'redis':
      case 'postgres':
        return this.#outage(action.do, action.downMs);
      case 'restart':
        return this.#restart();
      case 'upgrade':
        return this.#roll(action.to === 'newer' ? BUILD : olderBuild(this.options));
      case 'cancel':
      case 'delete':
        return this.#giveUp(action.do, submits[action.batch]!);
    }
  }

  /** Resolves when everything that was begun is done. */
  async settled(): Promise<void> {
    while (this.#going.size > 0) await Promise.all(this.#going);
  }

  async #kill(aim: string | undefined): Promise<void> {
    let victim = await this.#holderOf(aim);
    // All of them may just be dead.
    while ((victim ??= this.#oneOf(this.world.fleet.workers)) === undefined) await sleep(POLL_MS);
    this.#note(`kill -9 ${victim.pid}${aim === undefined ? '' : ` at ${aim}`}`);
    this.kills.push({ pid: victim.pid, atMs: Date.now() });
    this.#goOn(
      this.world.fleet.replace(victim).then((ms) => {
        this.replacedMs.push(ms);
      }),
    );
  }

  async #stall(ms: number): Promise<void> {
    const victim = this.#oneOf(this.world.fleet.workers);
    if (victim === undefined) return;
    this.#note(`stall ${victim.pid} for ${ms} ms`);
    victim.child.kill('SIGSTOP');
    this.#goOn(sleep(ms).then(() => void victim.child.kill('SIGCONT')));
  }

  async #outage(store: 'redis' | 'postgres', downMs: number): Promise<void> {
    this.#note(`${store} down for ${Math.round(downMs)} ms`);
    await this.world[store].stop();
    await sleep(downMs);
    await this.world[store].restart();
    this.#note(`${store} up`);
  }

  async #restart(): Promise<void> {
    const { fleet, redis, postgres } = this.world;
    await this.settled();
    const builds = fleet.workers.map(({ build }) => build);
    const runs = (await movingRuns(this.watch)) ?? 0;
    this.#note('everything down');
    await fleet.killAll();
    await Promise.all([redis.stop(), postgres.stop()]);
    await Promise.all([redis.restart(), postgres.restart()]);
    const [row] = await this.watch.query<{ now: Date }>('select clock_timestamp() as now');
    await Promise.all([fleet.startApi(builds[0]!), ...builds.map((build) => fleet.startWorker(build))]);
    this.#note('everything up');
    const readyAt = performance.now();
    while ((await forgottenRuns(this.watch, row!.now)) !== 0) {
      if (performance.now() - readyAt > 120_000) {
        this.complaints.push('two minutes after a restart there are still runs that nobody has');
        break;
      }
      await sleep(POLL_MS);
    }
    this.restarts.push({ runs, ms: performance.now() - readyAt });
  }

  /** One worker after the other ends by SIGTERM, and one of the other build comes. */
  async #roll(build: string): Promise<void> {
    this.#note(`workers go to ${build}`);
    for (const worker of [...this.world.fleet.workers]) {
      await this.world.fleet.stop(worker);
      await this.world.fleet.startWorker(build);
    }
  }

  async #giveUp(how: 'cancel' | 'delete', submit: Submit): Promise<void> {
    this.#note(`${how} ${submit.batch}`);
    submit.wanted = 'gone';
    const path = `/api/v1/batches/${submit.batch}`;
    const cancel = (): Promise<Response> => this.world.call('POST', `${path}/cancel`);
    let response = how === 'cancel' ? await cancel() : await this.world.call('DELETE', path);
    // As its hint says: what is still being made is cancelled.
    if (how === 'delete' && (await codeOf(response)) === 'batch-busy') response = await cancel();
    if (response.status !== 202)
      this.complaints.push(
        `${how} of ${submit.batch} was answered ${response.status}: ${await response.text()}`,
      );
  }

  /**
   * One of those who hold such a step, as soon as somebody does; without a step, whoever holds any. It is stopped, and looked at again:
   * on a busy machine most of them would have nothing in hand any more when they die.
   */
  async #holderOf(step: string | undefined): Promise<FleetProcess | undefined> {
    const giveUpAt = performance.now() + AIM_MS;
    while (performance.now() < giveUpAt) {
      const pids = await this.#holders(step);
      const victim = this.#oneOf(this.world.fleet.workers.filter(({ pid }) => pids.has(pid)));
      victim?.child.kill('SIGSTOP');
      // What it has sent arrives.
      await sleep(POLL_MS);
      if (victim === undefined) continue;
      if ((await this.#holders(step)).has(victim.pid)) return victim;
      victim.child.kill('SIGCONT');
    }
    return undefined;
  }

  async #holders(step: string | undefined): Promise<ReadonlySet<number>> {
    const rows = await this.watch.ask<{ pid: number }>(
      `select distinct w.pid from steps s join workers w on w.id = s.worker_id
        where s.key = coalesce($1, s.key) and w.stopped_at is null order by 1`,
      [step],
    );
    return new Set(rows?.map(({ pid }) => pid));
  }

  #oneOf(workers: readonly FleetProcess[]): FleetProcess | undefined {
    return workers[this.#random.integer(Math.max(1, workers.length))];
  }

  #note(text: string): void {
    this.done.push({ ns: process.hrtime.bigint(), text });
    this.options.say?.(`  ${text}`);
  }

  #goOn(work: Promise<void>): void {
    const going = work
      .catch((error: unknown) => void this.complaints.push(String(error)))
      .finally(() => this.#going.delete(going));
    this.#going.add(going);
  }
}

async function codeOf(response: Response): Promise<string | undefined> {
  if (response.status < 400) return undefined;
  return ((await response.clone().json()) as { code?: string }).code;
}

function olderBuild({ older }: CampaignOptions): string {
  if (older === undefined)
    throw new Error('Unable to upgrade: nobody said where the older build is (--older DIR)');
  return older;
}

/** False = something still moves after all this time. */
async function untilOver(
  watch: DatabaseWatch,
  say: (line: string) => void,
  patienceMs: number,
): Promise<boolean> {
  const giveUpAt = performance.now() + patienceMs;
  let told: number | undefined;
  while (performance.now() < giveUpAt) {
    const moving = await movingRuns(watch);
    if (moving === 0) return true;
    if (moving !== undefined && told !== undefined && Math.abs(told - moving) >= 20) say(`  ${moving} to go`);
    if (told === undefined || Math.abs(told - (moving ?? told)) >= 20) told = moving;
    await sleep(100);
  }
  return false;
}

/** What the checker reads beside the journal: the submits that were made, and one export. */
async function writeEvidence(world: ChaosWorld, submits: readonly Submit[]) {
  const submitsFile = join(world.folder, 'submits.ndjson');
  const lines = submits.map(({ key, batch, machines, wanted }) => ({ key, batch, machines, wanted }));
  await writeFile(submitsFile, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  const exportFile = join(world.folder, 'export.ndjson');
  const response = await world.call('GET', '/api/v1/export');
  await pipeline(Readable.fromWeb(response.body as never), createWriteStream(exportFile));
  return { submitsFile, exportFile };
}

async function statesOf(watch: DatabaseWatch, submits: readonly Submit[]) {
  const rows = await watch.query<{ batch: string; state: string; count: number }>(
    'select b.name as batch, m.state, count(*)::int from machines m join batches b on b.id = m.batch_id group by b.name, m.state',
  );
  const all: Record<string, number> = {};
  for (const { state, count } of rows) all[state] = (all[state] ?? 0) + count;
  const kept = submits.filter(({ wanted }) => wanted === 'ready');
  const names = new Set(kept.map(({ batch }) => batch));
  const ready = rows.filter(({ batch, state }) => names.has(batch) && state === 'ready');
  return {
    all,
    wanted: kept.reduce((total, { machines }) => total + machines.length, 0),
    wantedReady: ready.reduce((total, { count }) => total + count, 0),
  };
}
