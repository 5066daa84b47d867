import { Cluster, Redis } from 'ioredis';

/**
 * Connects to what a REDIS_URL names: `redis[s]://host:port/db`, `redis+sentinel://[user:password@]h1:26379,h2/name`, `redis+cluster://[user:password@]h1:6379,h2`.
 * Commands wait while the connection is away (`maxRetriesPerRequest: null`, as BullMQ needs it). An `error` listener is attached: the caller's.
 */
export function connectRedis(url: string, onError: (error: Error) => void): Redis | Cluster {
  const redis = open(url);
  redis.on('error', onError);
  return redis;
}

function open(url: string): Redis | Cluster {
  const match = /^redis\+(sentinel|cluster):\/\/(?:([^@/]*)@)?([^/]+)(?:\/([^?]*))?$/.exec(url);
  if (!match) return new Redis(url, { maxRetriesPerRequest: null });
  const [, kind, login, list, name] = match;
  const [username, password] = (login ?? '').split(':').map(decodeURIComponent);
  const credentials = { ...(username ? { username } : {}), ...(password ? { password } : {}) };
  const hosts = (list ?? '').split(',').map((entry) => {
    const [host, port] = entry.split(':');
    return { host: host ?? '', port: Number(port ?? (kind === 'sentinel' ? 26_379 : 6379)) };
  });
  if (kind === 'sentinel')
    return new Redis({
      sentinels: hosts,
      name: name || 'mymaster',
      maxRetriesPerRequest: null,
      ...credentials,
    });
  return new Cluster(hosts, { redisOptions: { maxRetriesPerRequest: null, ...credentials } });
}
