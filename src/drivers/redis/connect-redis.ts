import { Cluster, Redis, type RedisOptions } from 'ioredis';
import { readRedisUrl } from './redis-url.js';

/**
 * A server that hangs, or whose host lost its power, says nothing and closes nothing. Longer than any command of ours blocks (10 s).
 */
const SILENCE_MS = 30_000;

const COMMON = {
  // Commands wait while the connection is away; BullMQ needs it too.
  maxRetriesPerRequest: null,
  socketTimeout: SILENCE_MS,
  // A server that became a replica: connect again to where the master is now, and send the command there.
  reconnectOnError: (error) => (error.message.startsWith('READONLY') ? 2 : false),
} satisfies RedisOptions;

/** Connects to what a REDIS_URL names (see `readRedisUrl`). An `error` listener is attached: the caller's. */
export function connectRedis(url: string, onError: (error: Error) => void): Redis | Cluster {
  const redis = open(url);
  redis.on('error', onError);
  return redis;
}

function open(url: string): Redis | Cluster {
  const target = readRedisUrl(url);
  const options = { ...COMMON, ...target.redis };
  switch (target.kind) {
    case 'server':
      return new Redis(options);
    case 'sentinel':
      // The detector hears of a failover from the sentinels: a master that hangs would not tell.
      return new Redis({ ...options, sentinels: [...target.sentinels], failoverDetector: true });
    case 'cluster':
      return new Cluster([...target.nodes], {
        redisOptions: options,
        // As on one server: a command waits until its slot is served again.
        maxRedirections: Infinity,
        slotsRefreshTimeout: 5_000,
        // The connection that only listens sends nothing, and so learns of new nodes by looking.
        slotsRefreshInterval: 30_000,
      });
  }
}
