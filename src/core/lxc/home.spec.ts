import { describe, expect, it } from 'vitest';
import { homeMount, homePath } from './home.js';

const home = { root: '/mnt/pve/homes', folder: 'rapamato', at: '/home/rapamato', readOnly: false };
const dir = (path: string, mount = '/mnt/pve/homes') => ({ path, isDirectory: true, mount });
const root = dir('/mnt/pve/homes');

describe('a home', () => {
  it('is mounted from where the node says that it is', () => {
    expect(homeMount(home, root, dir('/mnt/pve/homes/rapamato'))).toEqual({
      source: '/mnt/pve/homes/rapamato',
      target: '/home/rapamato',
      kind: 'dir',
      readOnly: false,
      optional: false,
    });
    // The administrator's own link is followed.
    const behind = homeMount(home, dir('/srv/nfs', '/srv/nfs'), dir('/srv/nfs/rapamato', '/srv/nfs'));
    expect(behind.source).toBe('/srv/nfs/rapamato');
  });

  it.each([
    ['leads to the node', root, dir('/etc/pve'), /it leads to \/etc\/pve/],
    ['leads to somebody else', root, dir('/mnt/pve/homes/boss'), /it leads to \/mnt\/pve\/homes\/boss/],
    ['is missing', root, undefined, /it is missing on the node/],
    ['is a file', root, { ...dir('/mnt/pve/homes/rapamato'), isDirectory: false }, /no folder/],
    [
      'is on a share that is not mounted',
      dir('/mnt/pve/homes', '/'),
      dir('/mnt/pve/homes/rapamato', '/'),
      /nothing is mounted/,
    ],
    ['has no root', undefined, undefined, /\/mnt\/pve\/homes is missing/],
  ])('is refused when it %s (S36)', (_what, at, resolved, why) => {
    expect(() => homeMount(home, at, resolved)).toThrow(why);
  });

  it.each(['..', '.', '', 'a/b', '../etc', 'é', 'a b', 'a\n', '-x;id', 'a$b'])(
    'is none of the folder %j (S02, S36)',
    (folder) => expect(() => homePath({ ...home, folder })).toThrow(/no name of a folder/),
  );
});
