import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { HatcheryError } from '../../core/errors.js';
import { startEmbeddedPostgres, type EmbeddedStore } from '../../drivers/embedded/embedded-postgres.js';
import { startEmbeddedRedis } from '../../drivers/embedded/embedded-redis.js';
import { claimFolder } from '../../drivers/embedded/folder-claim.js';
import { resolveStateFolder } from '../../drivers/embedded/state-folder.js';
import { ensureDeployment, runMigrations } from '../../drivers/postgres/migrations.js';
import { refuseEviction } from '../../drivers/redis/eviction-policy.js';
import { PACKAGE_ROOT } from '../config/package-root.js';
import type { Settings } from '../config/settings.js';
import { loadSite } from '../config/site.js';
import type { AppContext } from '../context.js';
import { refuseChangedClusters } from './known-clusters.js';
import { keptSecretKey } from './secret-key.js';

/** Name of a deployment without clusters, which marks nothing outside. */
const UNNAMED = 'local';

export interface Prepared {
  readonly context: AppContext;
  /** Stops the stores that we started. */
  stop(): Promise<void>;
}

/**
 * Everything before Nest: the site's files are read, stores run, the database is migrated and ours.
 * Error: `settings-invalid` with what to write instead.
 */
export async function prepare(
  settings: Settings,
  env: Readonly<Record<string, string | undefined>>,
  logger: Logger,
): Promise<Prepared> {
  const site = loadSite({ configDir: settings.engine.configDir, env });
  const name = settings.engine.deployment ?? UNNAMED;
  if (settings.engine.deployment === undefined && site.clusters.length > 0)
    throw new HatcheryError(
      'settings-invalid',
      'Unable to start: clusters are configured and HATCHERY_DEPLOYMENT is not set',
      {
        retry: 'after-fix',
        hint: 'Write a name of your own for it: lower-case letters, digits and hyphens. It marks every guest that is made.',
      },
    );
  const started = newStops();
  try {
    const stateDir = lazily(() =>
      resolveStateFolder(settings.engine.stateDir ?? join(PACKAGE_ROOT, '.hatchery')),
    );
    const embedded =
      settings.store.databaseUrl && settings.redis.url
        ? undefined
        : await embeddedFolder(await stateDir(), started);
    const databaseUrl =
      settings.store.databaseUrl?.reveal() ?? (await start(startEmbeddedPostgres, embedded, started, logger));
    const redisUrl =
      settings.redis.url?.reveal() ?? (await start(startEmbeddedRedis, embedded, started, logger));
    if (settings.redis.url)
      await refuseEviction(redisUrl, (why) =>
        logger.warn({ why }, 'the eviction policy of Redis is not known'),
      );
    await runMigrations(databaseUrl);
    const deployment = await ensureDeployment(databaseUrl, name);
    await refuseChangedClusters(
      databaseUrl,
      site.clusters.map(({ definition }) => definition),
    );
    const given = settings.engine.secretKey;
    const secretKey = given ? Buffer.from(given.reveal(), 'base64') : await keptSecretKey(await stateDir());
    const stores = { databaseUrl, redisUrl, redisPrefix: settings.redis.prefix };
    return {
      context: { settings, site, stores, deployment, secretKey, stateDir, logger },
      stop: started.stop,
    };
  } catch (error) {
    await started.stop();
    throw error;
  }
}

interface Folders {
  readonly stateFolder: string;
  readonly dataFolder: string;
}

/** The data of `npm start`; the demo keeps its own elsewhere. Two services on one data folder would end each other's stores. */
async function embeddedFolder(stateFolder: string, started: Stops): Promise<Folders> {
  const dataFolder = join(stateFolder, 'service');
  await mkdir(dataFolder, { recursive: true, mode: process.getuid?.() === 0 ? 0o711 : 0o700 });
  const release = await claimFolder(dataFolder);
  if (!release)
    throw new HatcheryError(
      'settings-invalid',
      `Unable to start the embedded stores: another Hatchery uses ${dataFolder}`,
      {
        retry: 'after-fix',
        hint: 'Stop it, set another HATCHERY_STATE_DIR, or give both the same DATABASE_URL and REDIS_URL.',
      },
    );
  started.add(release);
  return { stateFolder, dataFolder };
}

async function start(
  store: (options: Folders & { log: (line: string) => void }) => Promise<EmbeddedStore>,
  folders: Folders | undefined,
  started: Stops,
  logger: Logger,
): Promise<string> {
  if (!folders) throw new HatcheryError('internal', 'Unable to start an embedded store: it has no folder');
  const running = await store({ ...folders, log: (line) => logger.info(line) });
  started.add(() => running.stop());
  return running.url;
}

interface Stops {
  add(stop: () => Promise<void>): void;
  stop(): Promise<void>;
}

function newStops(): Stops {
  const stops: (() => Promise<void>)[] = [];
  return {
    add: (stop) => void stops.push(stop),
    async stop() {
      for (const stop of stops.splice(0).reverse()) await stop();
    },
  };
}

function lazily<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => (made ??= make());
}
