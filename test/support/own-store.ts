import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbeddedPostgres, type EmbeddedStore } from '../../src/drivers/embedded/embedded-postgres.js';
import { startEmbeddedRedis } from '../../src/drivers/embedded/embedded-redis.js';

/** A store of one's own for work that flushes, restarts or kills it; `restart` keeps address and password. */
export interface OwnStore {
  readonly url: string;
  stop(): Promise<void>;
  /** Starts it again after `stop`, or stops it first: Postgres with its data, Redis empty. */
  restart(): Promise<void>;
  /** Stops it and removes its data. */
  remove(): Promise<void>;
}

export const ownRedisIn = (stateFolder: string): Promise<OwnStore> =>
  ownStore(stateFolder, (folders, url) => {
    const at = url && new URL(url);
    return startEmbeddedRedis({ ...folders, ...(at && { port: Number(at.port), password: at.password }) });
  });

/** As a new one is: no migration ran. */
export const ownEmptyPostgresIn = (stateFolder: string): Promise<OwnStore> =>
  ownStore(stateFolder, (folders, url) =>
    startEmbeddedPostgres({ ...folders, fsync: false, ...(url && { port: Number(new URL(url).port) }) }),
  );

interface Folders {
  readonly stateFolder: string;
  readonly dataFolder: string;
}

async function ownStore(
  stateFolder: string,
  start: (folders: Folders, url?: string) => Promise<EmbeddedStore>,
): Promise<OwnStore> {
  const dataFolder = await mkdtemp(join(tmpdir(), 'hatchery-test-'));
  await chmod(dataFolder, 0o711);
  const folders = { stateFolder, dataFolder };
  let store = await start(folders);
  const { url } = store;
  return {
    url,
    stop: () => store.stop(),
    async restart() {
      await store.stop();
      store = await start(folders, url);
    },
    async remove() {
      await store.stop();
      await rm(dataFolder, { recursive: true, force: true });
    },
  };
}
