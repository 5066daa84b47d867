import { Cluster } from 'ioredis';
import { HatcheryError } from '../../core/errors.js';
import { connectRedis } from './connect-redis.js';

const WAIT_MS = 5_000;
const KEEPS_ALL = 'noeviction';

/**
 * Refuses a Redis that throws keys away when its memory is full: they would be the locks of running steps and entries of the queue.
 * A server that does not answer, or does not tell, is not judged: `onUnknown` says why.
 * Error: `settings-invalid`.
 */
export async function refuseEviction(url: string, onUnknown: (why: string) => void): Promise<void> {
  const policies = await readPolicies(url).catch((error: unknown) => {
    onUnknown(error instanceof Error ? error.message : String(error));
    return [];
  });
  const evicting = policies.find((policy) => policy !== KEEPS_ALL);
  if (evicting === undefined) return;
  throw new HatcheryError(
    'settings-invalid',
    `Unable to start: the Redis of REDIS_URL throws keys away when its memory is full (maxmemory-policy ${evicting}), among them locks and the queue`,
    {
      retry: 'after-fix',
      hint: `Set its policy (redis-cli config set maxmemory-policy ${KEEPS_ALL}, and the same in redis.conf), or name another Redis.`,
    },
  );
}

/** Of every server that takes writes. INFO tells it also where CONFIG is not allowed. */
async function readPolicies(url: string): Promise<string[]> {
  const redis = connectRedis(url, () => undefined);
  const tooLate = AbortSignal.timeout(WAIT_MS);
  try {
    const read = async (): Promise<string[]> => {
      await redis.ping();
      const servers = redis instanceof Cluster ? redis.nodes('master') : [redis];
      const answers = await Promise.all(servers.map((server) => server.info('memory')));
      return answers.map((answer) => {
        const policy = /^maxmemory_policy:(\S+)/m.exec(answer)?.[1];
        if (policy === undefined) throw new Error('it does not tell its eviction policy');
        return policy;
      });
    };
    const late = new Promise<never>((_, reject) =>
      tooLate.addEventListener('abort', () => reject(new Error(`no answer within ${WAIT_MS / 1_000} s`))),
    );
    return await Promise.race([read(), late]);
  } finally {
    redis.disconnect();
  }
}
