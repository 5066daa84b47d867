import { hostname } from 'node:os';
import type { ClusterDefinition, ServiceDefinition } from '../../core/definitions.js';
import { phoneHomeCommand } from '../../core/vendor-data.js';
import { HatcheryError } from '../../core/errors.js';
import { BullDispatch, BullStepWorker } from '../../drivers/bullmq/bull-dispatch.js';
import { WatchedStepWorker } from '../../drivers/bullmq/watched-step-worker.js';
import { GuacamoleDriver } from '../../drivers/guacamole/guacamole.driver.js';
import { batchSummary } from '../../drivers/postgres/batch-summary.js';
import { Database } from '../../drivers/postgres/database.js';
import { PostgresBatchStore } from '../../drivers/postgres/batch-store.js';
import { PostgresDurations } from '../../drivers/postgres/step-durations.js';
import { PostgresRunStore } from '../../drivers/postgres/run-store.js';
import { PostgresClusterStops } from '../../drivers/postgres/cluster-stops.js';
import { PostgresStepGroups } from '../../drivers/postgres/step-groups.js';
import { PostgresSlotLimits } from '../../drivers/postgres/slot-limits.js';
import { PostgresSlots } from '../../drivers/postgres/slots.js';
import { PostgresSecrets } from '../../drivers/postgres/postgres-secrets.js';
import { placedSnippets } from '../../drivers/postgres/placed-snippets.js';
import { PostgresPhoneHomes } from '../../drivers/postgres/phone-homes.js';
import { PostgresWorkers } from '../../drivers/postgres/workers.js';
import { PostgresVmidRests } from '../../drivers/postgres/vmid-rests.js';
import { PostgresWorkReads } from '../../drivers/postgres/work-reads.js';
import { storeCatalog } from '../../drivers/postgres/site-catalog.js';
import { ProxmoxDriver } from '../../drivers/proxmox/proxmox.driver.js';
import { connectRedis } from '../../drivers/redis/connect-redis.js';
import { RedisNews } from '../../drivers/redis/redis-news.js';
import { RedisLocks } from '../../drivers/redis/redis-locks.js';
import { RedisWakeUps } from '../../drivers/redis/redis-wake-ups.js';
import { SshNodeFiles } from '../../drivers/ssh/ssh-node-files.js';
import { systemClock } from '../../drivers/system-clock.js';
import type { Webhook } from '../../drivers/webhook/webhook.js';
import { WindowsDhcpDriver } from '../../drivers/winrm/windows-dhcp.driver.js';
import { BatchIntake } from '../../engine/batch-intake.js';
import { Caretaker } from '../../engine/caretaker.js';
import { DEFAULT_TIMES, type EngineLog, type EngineParts, type EngineTimes } from '../../engine/engine.js';
import { ClusterLimits } from '../../engine/cluster-limits.js';
import { ClusterWatch } from '../../engine/cluster-watch.js';
import { PhoneHome } from '../../engine/phone-home.js';
import { RunHandles } from '../../engine/run-handles.js';
import { RemainingTimes } from '../../engine/remaining-times.js';
import { StrayFinder } from '../../engine/strays.js';
import { OutageBreaker } from '../../engine/outage-breaker.js';
import { RetryBudget } from '../../engine/retry-budget.js';
import { EngineWorker } from '../../engine/worker.js';
import { durationMs, type Registry, type StepPorts } from '../../plan/step.js';
import { compileWorkflow } from '../../plan/workflow.js';
import type { CheckedService } from '../../ports/checked-service.js';
import type { ClusterPauses } from '../../ports/cluster-pauses.js';
import { noCheckpoints, type Checkpoints } from '../../ports/checkpoints.js';
import type { Dhcp } from '../../ports/dhcp.js';
import type { Durations } from '../../ports/durations.js';
import type { Hypervisor, Hypervisors, IntendedUse } from '../../ports/hypervisor.js';
import type { NodeFiles } from '../../ports/node-files.js';
import type { SharedNews } from '../../ports/shared-news.js';
import type { VmidRests } from '../../ports/vmid-rests.js';
import type { Workers } from '../../ports/workers.js';
import { EFFECTS } from '../../steps/effects.js';
import { effectOfKind } from '../../steps/guest-effect.js';
import { STEPS } from '../../steps/index.js';
import type { SiteConfig } from '../config/site.js';
import { nodeHelper } from '../config/node-helper.js';
import { refuseMisfits } from './blueprint-fit.js';
import { intendedUse } from './intended-use.js';

/** Called with every remote request: seconds and how it ended. */
export type ObserveRemote = (system: string, op: string, seconds: number, outcome: string) => void;

export interface AssembleOptions {
  readonly databaseUrl: string;
  readonly redisUrl: string;
  readonly redisPrefix: string;
  /** uuid of the deployment: goes into every mark. */
  readonly deployment: string;
  readonly secretKey: Buffer;
  readonly site: SiteConfig;
  /** Where guests reach the API; without it they are not told to phone home. */
  readonly publicUrl?: string | undefined;
  readonly remoteTimeScale: number;
  readonly log: EngineLog;
  readonly observe: ObserveRemote;
  readonly webhook: Pick<Webhook, 'post'>;
  readonly times?: Partial<EngineTimes>;
  readonly checkpoints?: Checkpoints;
  /** Instead of the shipped steps and effects. */
  readonly registry?: Registry;
  /** Between two looks for guests that nobody counts on. */
  readonly strayMs?: number;
  /** Between two looks for guests of other deployments. */
  readonly watchMs?: number;
}

/** A look at the range takes any inventory that was read for something else not long ago. */
const WATCH_AGE_MS = 5_000;
/** How old learned durations may be that a process goes by. */
const REFRESH_MS = 5_000;
const LEAST_REFRESH_MS = 500;

/** Everything between the stores and the API, put together once per process. */
export interface Assembly {
  readonly parts: EngineParts;
  readonly database: Database;
  readonly intake: BatchIntake;
  readonly runHandles: RunHandles;
  readonly phoneHome: PhoneHome;
  readonly hypervisors: Hypervisors;
  /** Of the clusters that have `ssh`. */
  readonly nodeFiles: ReadonlyMap<string, NodeFiles>;
  readonly services: readonly CheckedService[];
  readonly vmidRests: VmidRests;
  readonly clusterLimits: ClusterLimits;
  readonly clusterPauses: ClusterPauses;
  /** What this site means to do on a cluster. */
  readonly useOf: (cluster: string) => Promise<IntendedUse>;
  readonly durations: Durations;
  readonly remaining: RemainingTimes;
  readonly locks: RedisLocks;
  readonly wakeUps: RedisWakeUps;
  readonly caretaker: Caretaker;
  readonly workers: Workers;
  /** A worker that takes steps from the queue until `stop`, or until a person drains it: `onDrained`. */
  startWorker(concurrency: number, onDrained?: () => void): Promise<{ stop(): Promise<void> }>;
  close(): Promise<void>;
}

export async function assemble(options: AssembleOptions): Promise<Assembly> {
  const onError = (error: Error): void => options.log.warn({ err: error }, 'a store did not answer');
  const database = new Database(options.databaseUrl, { onError });
  const redis = connectRedis(options.redisUrl, onError);
  const wakeUps = new RedisWakeUps(redis, options.redisPrefix, onError);
  await wakeUps.start();
  const news = new RedisNews(redis, options.redisPrefix, onError);
  await news.start();
  const clusters = options.site.clusters.map((cluster) => cluster.definition);
  const store = new PostgresRunStore(database, {
    quarantineMs: (name) => durationMs(clusterNamed(clusters, name).vmids.quarantine),
    vmids: (name) => clusterNamed(clusters, name).vmids,
  });
  const secrets = new PostgresSecrets(database, options.secretKey);
  const { publicUrl } = options;
  const phonesHome = (name: string): boolean =>
    publicUrl !== undefined && clusterNamed(clusters, name).vendorData !== undefined;
  const phoneHomes = new PostgresPhoneHomes(database, phonesHome);
  const drivers = makeDrivers(options, news);
  const vmidRests = new PostgresVmidRests(database);
  const stops = new PostgresClusterStops(database);
  const times: EngineTimes = {
    ...DEFAULT_TIMES,
    longestRequestMs: Math.max(2_000, DEFAULT_TIMES.longestRequestMs * options.remoteTimeScale),
    backOffScale: options.remoteTimeScale,
    waitLimitMs: DEFAULT_TIMES.waitLimitMs * options.remoteTimeScale,
    ...options.times,
  };
  // A lock outlives its holder no longer than the holder's lease does.
  const locks = new RedisLocks(redis, {
    prefix: options.redisPrefix,
    holder: `process ${process.pid} on ${hostname()}`,
    lockMs: times.leaseMs,
  });
  const durations = new PostgresDurations(database, {
    refreshMs: Math.max(LEAST_REFRESH_MS, REFRESH_MS * options.remoteTimeScale),
    now: () => systemClock.monotonicMs(),
  });
  const dispatch = new BullDispatch(connectRedis(options.redisUrl, onError), options.redisPrefix, onError);
  const ports = { ...drivers, secrets, phoneHomes, durations, remoteTimeScale: options.remoteTimeScale };
  const common = { stops, clock: systemClock, log: options.log, random: Math.random, ports };
  const parts: EngineParts = {
    ...common,
    store,
    breaker: new OutageBreaker(common),
    retryBudget: new RetryBudget(times.backOffScale),
    groups: new PostgresStepGroups(database),
    slots: new PostgresSlots(database),
    slotLimits: new PostgresSlotLimits(database),
    rangeOf: (name) => clusterNamed(clusters, name).vmids,
    dispatch,
    locks,
    wakeUps,
    checkpoints: options.checkpoints ?? noCheckpoints,
    ...(options.registry ?? { steps: STEPS, effects: EFFECTS }),
    deployment: options.deployment,
    times,
  };
  const workflows = options.site.workflowFiles.map((file) => compileWorkflow(file.path, file.text, STEPS));
  refuseMisfits(options.site.blueprints, workflows, STEPS);
  const catalog = await storeCatalog(database, {
    blueprints: options.site.blueprints,
    workflows,
    clusters,
    hooks: new Map(
      options.site.hooks.map(({ definition: { name, phase, sha256, reports } }) => [
        name,
        { name, phase, sha256, reports },
      ]),
    ),
  });
  const watches = new Map(
    clusters.map(({ name, pool, vmids }) => [
      name,
      new ClusterWatch(parts, drivers.hypervisor(name), {
        pool,
        from: vmids.from,
        to: vmids.to,
        liftAfterMs: ClusterWatch.liftAfterMs(options.remoteTimeScale),
      }),
    ]),
  );
  const limitOf = slotLimits(options.site);
  const remaining = new RemainingTimes({
    work: new PostgresWorkReads(database),
    durations,
    registry: parts,
    limitsOf: async (cluster) => {
      const now = new Map((await parts.slotLimits.list(cluster)).map((limit) => [limit.resource, limit]));
      return (slot) => now.get(slot)?.fixed ?? now.get(slot)?.measured?.limit ?? limitOf(slot);
    },
    remoteTimeScale: options.remoteTimeScale,
    clock: systemClock,
  });
  const batches = new PostgresBatchStore(database);
  const intake = new BatchIntake({
    batches,
    catalog,
    hypervisors: drivers.hypervisors,
    secrets,
    engine: parts,
    watchCluster: async (name, inventory, signal) => watches.get(name)?.look(inventory, signal),
    remaining,
    phoneHomeCommand: (name) =>
      publicUrl !== undefined && phonesHome(name) ? phoneHomeCommand(publicUrl) : undefined,
  });
  const strays = new Map(
    clusters.map(({ name, pool, vmids }) => [
      name,
      new StrayFinder(parts, drivers.hypervisor(name), { pool, ...vmids, effectOf: effectOfKind }),
    ]),
  );
  const caretaker = new Caretaker(parts, {
    clusters: clusters.map((cluster) => cluster.name),
    limitOf,
    watchCluster: async (name, signal) =>
      watches
        .get(name)
        ?.look(
          await drivers
            .hypervisor(name)
            .inventory({ maxAgeMs: Math.min(WATCH_AGE_MS, options.watchMs ?? WATCH_AGE_MS), signal }),
          signal,
        ),
    ...(options.watchMs === undefined ? {} : { watchMs: options.watchMs }),
    findStrays: async (name, signal) => strays.get(name)?.reopen(signal) ?? 0,
    ...(options.strayMs === undefined ? {} : { strayMs: options.strayMs }),
    learn: () => durations.learn(),
    notify: async (batchId) => {
      const summary = await batchSummary(database, batchId);
      if (summary) await options.webhook.post(summary.url, summary.body, `batch-${batchId}`);
    },
  });
  return {
    parts,
    database,
    intake,
    runHandles: new RunHandles(parts, batches),
    phoneHome: new PhoneHome(phoneHomes, parts),
    hypervisors: drivers.hypervisors,
    nodeFiles: drivers.nodeFilesByCluster,
    services: drivers.services,
    vmidRests,
    clusterLimits: new ClusterLimits(parts.slotLimits, limitOf),
    clusterPauses: stops,
    useOf: async (cluster) =>
      intendedUse(cluster, {
        blueprints: options.site.blueprints,
        workflows,
        store,
        vmidRests,
        phonesHome: phonesHome(cluster),
        snippets: await placedSnippets(database, cluster),
      }),
    durations,
    remaining,
    locks,
    wakeUps,
    caretaker,
    workers: new PostgresWorkers(database),
    startWorker: (concurrency, onDrained) => startWorker(parts, options, concurrency, onDrained),
    async close() {
      await drivers.close();
      await dispatch.close();
      await wakeUps.stop();
      news.stop();
      redis.disconnect();
      await database.close();
    },
  };
}

async function startWorker(
  parts: EngineParts,
  options: AssembleOptions,
  concurrency: number,
  onDrained: () => void = () => {},
): Promise<{ stop(): Promise<void> }> {
  const onError = (error: Error): void =>
    options.log.warn({ err: error }, 'the queue, or a job of it, failed');
  const worker = new EngineWorker(parts, { onDrain: () => void drain() });
  await worker.start();
  const jobs = new WatchedStepWorker({
    open: (handle) =>
      new BullStepWorker(
        connectRedis(options.redisUrl, onError),
        { prefix: options.redisPrefix, concurrency, onError },
        handle,
      ),
    handle: (stepId) => worker.handle(stepId),
    concurrency,
    isWorkWaiting: (forMs) => parts.store.isWorkWaiting(forMs),
    onDeaf: () =>
      options.log.warn({}, 'steps wait and nothing comes from the queue: the worker listens anew'),
    onError,
    clock: parts.clock,
  });
  const end = async (): Promise<void> => {
    await jobs.pause();
    await worker.stop();
    await jobs.close();
  };
  let ended: Promise<void> | undefined;
  const stop = (): Promise<void> => (ended ??= end());
  const drain = async (): Promise<void> => {
    await jobs.pause();
    await worker.empty();
    if (ended !== undefined) return;
    await stop();
    options.log.info({}, 'a drained worker has ended');
    onDrained();
  };
  await jobs.ready();
  return { stop };
}

type Drivers = Pick<
  StepPorts,
  'hypervisor' | 'nodeFiles' | 'dhcp' | 'desktopGateway' | 'domainJoin' | 'hookScripts'
> & {
  readonly hypervisors: Hypervisors;
  readonly nodeFilesByCluster: ReadonlyMap<string, NodeFiles>;
  readonly services: readonly CheckedService[];
  /** Signs out where a session is open. */
  close(): Promise<void>;
};

function makeDrivers(options: AssembleOptions, news: SharedNews): Drivers {
  const common = { clock: systemClock, remoteTimeScale: options.remoteTimeScale };
  const metricsOf = (system: string) => ({
    observe: (op: string, seconds: number, outcome: string) => options.observe(system, op, seconds, outcome),
  });
  const hypervisors = new Map<string, Hypervisor>();
  for (const { definition, secret } of options.site.clusters)
    hypervisors.set(
      definition.name,
      new ProxmoxDriver({
        ...common,
        definition,
        secret,
        deployment: options.deployment,
        log: options.log,
        news,
        metrics: metricsOf('proxmox'),
      }),
    );
  const nodeFiles = new Map<string, SshNodeFiles>();
  for (const { definition, sshKey } of options.site.clusters)
    if (definition.ssh && sshKey)
      nodeFiles.set(
        definition.name,
        new SshNodeFiles({
          ...common,
          cluster: definition.name,
          settings: definition.ssh,
          privateKey: sshKey,
          program: nodeHelper(),
          metrics: metricsOf('ssh'),
        }),
      );
  const dhcp = new Map<string, Dhcp>();
  const gateways = new Map<string, GuacamoleDriver>();
  for (const { definition, password } of options.site.services) {
    const at = { ...common, definition, password, metrics: metricsOf(definition.kind) };
    if (definition.kind === 'windows-dhcp') dhcp.set(definition.name, new WindowsDhcpDriver(at));
    else gateways.set(definition.name, new GuacamoleDriver(at));
  }
  const domains = new Map(
    options.site.domains.map(({ definition: { name, realm, username }, password }) => [
      name,
      { realm, user: username, password },
    ]),
  );
  const scripts = new Map(options.site.hooks.map(({ definition, script }) => [definition.sha256, script]));
  const get = <T>(map: ReadonlyMap<string, T>, what: string, name: string): T => {
    const found = map.get(name);
    if (found !== undefined) return found;
    throw new HatcheryError('not-found', `Unable to use ${what} ${name}: it is not configured here`, {
      retry: 'after-fix',
    });
  };
  return {
    hypervisor: (name) => get(hypervisors, 'cluster', name),
    nodeFiles: (name) => {
      const found = nodeFiles.get(name);
      if (found !== undefined) return found;
      throw new HatcheryError('not-found', `Unable to work on the nodes of cluster ${name}: it has no ssh`, {
        retry: 'after-fix',
        hint: `Write ssh: with privateKey and hostKeys into clusters/${name}.yaml.`,
      });
    },
    nodeFilesByCluster: nodeFiles,
    dhcp: (name) => get(dhcp, 'DHCP service', name),
    desktopGateway: (name) => get(gateways, 'desktop gateway', name),
    hypervisors: { get: (name) => get(hypervisors, 'cluster', name), all: () => [...hypervisors.values()] },
    domainJoin: (name) => get(domains, 'domain', name),
    hookScripts: { find: (sha256) => scripts.get(sha256) },
    services: options.site.services.map(({ definition: { name, kind } }) => ({
      name,
      kind,
      check: (call) => (dhcp.get(name) ?? gateways.get(name)!).check(call),
    })),
    close: async () => {
      for (const files of nodeFiles.values()) files.close();
      await Promise.allSettled([...gateways.values()].map((gateway) => gateway.close()));
    },
  };
}

/** Limits of slots by their name: `clones@storage:<cluster>/...`, `clones@node:<cluster>/...`, `clones@source:<cluster>/<vmid>`, `creates@storage:<cluster>/...`, `creates@node:<cluster>/...`, `starts@node:<cluster>/...`, `destroys@cluster:<cluster>`, `lookups@cluster:<cluster>`, `shells@dhcp:<service>`. */
function slotLimits(site: SiteConfig): (slot: string) => number {
  const clusters = new Map(site.clusters.map(({ definition }) => [definition.name, definition.limits]));
  const services = new Map<string, ServiceDefinition>(
    site.services.map(({ definition }) => [definition.name, definition]),
  );
  return (slot) => {
    const [kind, at = ''] = slot.split(/:(.*)/s);
    const limits = clusters.get(at.split('/')[0] ?? '');
    switch (kind) {
      case 'clones@storage':
        return limits?.clonesPerStorage ?? 1;
      case 'clones@node':
        return limits?.clonesPerNode ?? 1;
      case 'clones@source':
        return 1;
      case 'creates@storage':
        return limits?.createsPerStorage ?? 1;
      case 'creates@node':
        return limits?.createsPerNode ?? 1;
      case 'starts@node':
        return limits?.startsPerNode ?? 1;
      case 'destroys@cluster':
        return limits?.destroysPerCluster ?? 1;
      case 'lookups@cluster':
        return limits?.lookupsPerCluster ?? 1;
      case 'shells@dhcp':
        return services.get(at)?.maxShells ?? 1;
      default:
        return 1;
    }
  };
}

function clusterNamed(clusters: readonly ClusterDefinition[], name: string): ClusterDefinition {
  const found = clusters.find((cluster) => cluster.name === name);
  if (found) return found;
  throw new HatcheryError('not-found', `Unable to go on: cluster ${name} is no longer configured`, {
    retry: 'after-fix',
    hint: `Bring back clusters/${name}.yaml.`,
  });
}
