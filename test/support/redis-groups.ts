import { randomBytes } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { inject } from 'vitest';
import { freePort } from '../../src/drivers/embedded/free-port.js';
import { spawnGuarded, type GuardedProcess } from '../../src/drivers/embedded/guarded-process.js';
import { findRedisServer, type RedisServer } from '../../src/drivers/embedded/redis-server.js';
import { systemClock } from '../../src/drivers/system-clock.js';

/** One redis-server of a group. It keeps no data: started again, it is empty and knows its place in the group. */
export interface GroupServer {
  readonly port: number;
  /** For asking it, not for following the group. */
  readonly client: Redis;
  /** As a lost host ends. */
  kill(): Promise<void>;
  /** It answers nobody and closes nothing, as a hung host. */
  freeze(): void;
  thaw(): void;
  start(): Promise<void>;
}

interface Group {
  readonly url: string;
  readonly servers: readonly GroupServer[];
  stop(): Promise<void>;
}

const SLOTS = 16_384;

/** A real Redis Cluster: three masters without replicas, behind a password. */
export async function startRedisCluster(): Promise<Group & { ownerOf(key: string): Promise<GroupServer> }> {
  const group = await emptyGroup();
  const password = randomBytes(18).toString('base64url');
  const ports = await freePorts(6);
  const [buses, own] = [ports.slice(0, 3), ports.slice(3)];
  for (const [index, port] of own.entries())
    await group.add(port, password, {
      'cluster-enabled': 'yes',
      'cluster-node-timeout': 1000,
      'cluster-port': buses[index]!,
    });
  const share = Math.ceil(SLOTS / 3);
  for (const [index, { client }] of group.servers.entries()) {
    await client.call('CLUSTER', 'ADDSLOTSRANGE', index * share, Math.min(SLOTS, (index + 1) * share) - 1);
    await client.call('CLUSTER', 'SET-CONFIG-EPOCH', index + 1);
    await group.servers[0]!.client.call('CLUSTER', 'MEET', '127.0.0.1', own[index]!, buses[index]!);
  }
  for (const { client } of group.servers) await clusterIs(client, 'ok');
  return {
    url: `redis+cluster://:${password}@${own.map((port) => `127.0.0.1:${port}`).join(',')}`,
    servers: group.servers,
    stop: group.stop,
    async ownerOf(key) {
      const slot = await group.servers[0]!.client.cluster('KEYSLOT', key);
      return group.servers[Math.floor(slot / share)]!;
    },
  };
}

/** Resolves when this node of a cluster says so. */
export async function clusterIs(client: Redis, state: 'ok' | 'fail'): Promise<void> {
  await until(`the cluster is ${state}`, async () => {
    const info = String(await client.cluster('INFO'));
    return info.includes(`cluster_state:${state}`) && info.includes('cluster_known_nodes:3');
  });
}

/** A real Sentinel over a master and a replica; sentinel and servers have passwords of their own. */
export async function startRedisSentinel(): Promise<
  Group & {
    master(): Promise<GroupServer>;
    /** Asked for by an admin; resolves when the sentinel names the other server. */
    failover(): Promise<void>;
    /** Resolves when the sentinel names another server than this one. */
    replaced(server: GroupServer): Promise<void>;
  }
> {
  const group = await emptyGroup();
  const [password, watchword] = [
    randomBytes(18).toString('base64url'),
    randomBytes(18).toString('base64url'),
  ];
  const [first, second, third] = await freePorts(3);
  await group.add(first!, password, { masterauth: password });
  await group.add(second!, password, { masterauth: password, replicaof: `127.0.0.1 ${first}` });
  const sentinel = await group.start(third!, watchword, {
    sentinel: [
      `monitor main 127.0.0.1 ${first} 1`,
      `auth-pass main ${password}`,
      'down-after-milliseconds main 1000',
      'failover-timeout main 3000',
    ],
  }, ['--sentinel']); // prettier-ignore
  const masterPort = async (): Promise<number> =>
    Number(((await sentinel.client.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'main')) as string[])[1]);
  const master = async (): Promise<GroupServer> => {
    const port = await masterPort();
    return group.servers.find((server) => server.port === port)!;
  };
  const hasReplica = async (): Promise<boolean> => {
    const replicas = (await sentinel.client.call('SENTINEL', 'REPLICAS', 'main')) as string[][];
    return replicas.some((fields) => {
      const of = (name: string): string | undefined => fields[fields.indexOf(name) + 1];
      return of('flags') === 'slave' && of('master-link-status') === 'ok';
    });
  };
  await until('the sentinel knows a replica that follows', hasReplica);
  return {
    url: `redis+sentinel://:${password}@127.0.0.1:${third}/main?sentinelPassword=${watchword}`,
    servers: group.servers,
    stop: group.stop,
    master,
    replaced: (server) => until('another master', async () => (await masterPort()) !== server.port),
    async failover() {
      const before = await masterPort();
      // A failover that the sentinel gives up is asked for again; one that is under way is refused.
      await until('another master', async () => {
        if ((await masterPort()) !== before) return true;
        await sentinel.client.call('SENTINEL', 'FAILOVER', 'main').catch(() => undefined);
        return false;
      });
    },
  };
}

type Config = Readonly<Record<string, string | number | readonly string[]>>;

async function emptyGroup(): Promise<{
  servers: GroupServer[];
  /** A server of data. */
  add(port: number, password: string, config: Config): Promise<void>;
  /** Any server. */
  start(port: number, password: string, config: Config, args: readonly string[]): Promise<GroupServer>;
  stop(): Promise<void>;
}> {
  const folder = await mkdtemp(join(tmpdir(), 'hatchery-redis-'));
  const server = await findRedisServer(inject('stateFolder'), () => {});
  const stops: (() => Promise<void>)[] = [];
  const start = async (
    port: number,
    password: string,
    config: Config,
    args: readonly string[],
  ): Promise<GroupServer> => {
    const started = await startServer(server, join(folder, String(port)), port, password, config, args);
    stops.push(started.stop);
    return started;
  };
  const servers: GroupServer[] = [];
  return {
    servers,
    start,
    add: async (port, password, config) => void servers.push(await start(port, password, config, [])),
    async stop() {
      await Promise.all(stops.map((stop) => stop()));
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function startServer(
  { command, libraryPath }: RedisServer,
  folder: string,
  port: number,
  password: string,
  config: Config,
  args: readonly string[],
): Promise<GroupServer & { stop(): Promise<void> }> {
  await mkdir(folder, { recursive: true });
  const configFile = join(folder, 'redis.conf');
  const lines = { bind: '127.0.0.1', port, requirepass: password, dir: folder, ...config };
  const isSentinel = args.includes('--sentinel');
  await writeFile(
    configFile,
    Object.entries(isSentinel ? lines : { ...lines, save: '""', 'repl-diskless-sync-delay': 0 })
      .flatMap(([name, values]) => [values].flat().map((value) => `${name} ${value}\n`))
      .join(''),
    { mode: 0o600 },
  );
  let running: GuardedProcess;
  const run = async (): Promise<void> => {
    const log = openSync(join(folder, 'redis.log'), 'a', 0o600);
    running = await spawnGuarded({
      command,
      args: [configFile, ...args],
      stopSignal: 'SIGINT',
      graceSeconds: 5,
      env: { PATH: '/usr/bin:/bin', ...(libraryPath === undefined ? {} : { LD_LIBRARY_PATH: libraryPath }) },
      stdout: log,
      stderr: log,
    }).finally(() => closeSync(log));
  };
  await run();
  const client = new Redis({ host: '127.0.0.1', port, password, maxRetriesPerRequest: null });
  client.on('error', () => undefined);
  await client.ping();
  return {
    port,
    client,
    async kill() {
      running.process.kill('SIGKILL');
      await running.ended;
    },
    freeze: () => void running.process.kill('SIGSTOP'),
    thaw: () => void running.process.kill('SIGCONT'),
    async start() {
      await run();
      await client.ping();
    },
    async stop() {
      client.disconnect();
      running.process.kill('SIGCONT');
      await running.stop();
    },
  };
}

async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) ports.add(await freePort());
  return [...ports];
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (const endsAt = performance.now() + 60_000; !(await holds()); await systemClock.sleep(20))
    if (performance.now() > endsAt) throw new Error(`never: ${what}`);
}
