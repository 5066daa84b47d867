import { describe, expect, it } from 'vitest';
import { HatcheryError } from '../../core/errors.js';
import { readRedisUrl } from './redis-url.js';

function refused(url: string): HatcheryError {
  try {
    readRedisUrl(url);
  } catch (error) {
    if (error instanceof HatcheryError) return error;
    throw error;
  }
  throw new Error(`${url} was accepted`);
}

describe('readRedisUrl', () => {
  it('reads one server, with and without TLS', () => {
    expect(readRedisUrl('redis://localhost')).toEqual({
      kind: 'server',
      redis: { host: 'localhost', port: 6379, db: 0 },
    });
    expect(readRedisUrl('rediss://app:p%40ss:word@cache.example.org:6380/3')).toEqual({
      kind: 'server',
      redis: {
        username: 'app',
        password: 'p@ss:word',
        tls: {},
        host: 'cache.example.org',
        port: 6380,
        db: 3,
      },
    });
  });

  it('reads sentinels, whose password is not that of the servers', () => {
    expect(
      readRedisUrl('redis+sentinel://:data@s1,s2:5000,[2001:db8::1]/main?sentinelPassword=watch%26'),
    ).toEqual({
      kind: 'sentinel',
      sentinels: [
        { host: 's1', port: 26_379 },
        { host: 's2', port: 5000 },
        { host: '2001:db8::1', port: 26_379 },
      ],
      redis: { password: 'data', sentinelPassword: 'watch&', name: 'main' },
    });
    expect(readRedisUrl('redis+sentinel://s1/main?sentinelUsername=w&sentinelPassword=p')).toMatchObject({
      redis: { sentinelUsername: 'w', sentinelPassword: 'p' },
    });
  });

  it('reads the nodes of a cluster', () => {
    expect(readRedisUrl('redis+cluster://app:secret@10.0.0.1:7000,[::1]:7001,c')).toEqual({
      kind: 'cluster',
      nodes: [
        { host: '10.0.0.1', port: 7000 },
        { host: '::1', port: 7001 },
        { host: 'c', port: 6379 },
      ],
      redis: { username: 'app', password: 'secret' },
    });
  });

  it.each([
    ['redis:/host', 'write redis[s]://'],
    ['redis://', 'write each host as'],
    ['redis://:top/secret@host', '%2F'],
    ['redis://:top@secret@host', '%40'],
    ['redis://topsecret@host', ':password, before the "@"'],
    ['redis://:top%secret@host', '%25'],
    ['redis://h1,h2', 'redis+cluster://h1,h2 for several'],
    ['redis://host/queue', 'number of the database'],
    ['redis://host:70000', 'write each host as'],
    ['redis+cluster://h1, h2', 'no spaces'],
    ['redis+cluster://h1,,h2', 'write each host as'],
    ['redis+cluster://::1', '[2001:db8::1]'],
    ['redis+cluster://h1/0', 'one database'],
    ['redis+sentinel://h1,h2', '/mymaster'],
    ['redis+sentinel://h1/main?password=topsecret', '?sentinelPassword='],
    ['redis+sentinel://h1/main?sentinelUsername=a', 'sentinelPassword too'],
  ])('refuses %s with what to write instead', (url, write) => {
    const error = refused(url);
    expect(error.code).toBe('settings-invalid');
    expect(error.hint).toContain(write);
    expect(`${error.message} ${error.hint}`).not.toMatch(/topsecret|top%secret|top@secret/);
  });
});
