import { describe, expect, it } from 'vitest';
import { newGuest, type WorldGuest } from '../world.js';
import { textOf, writeText } from './lxc-config-file.js';

const about = { vmid: 105, kind: 'lxc', node: 'pve1', owner: 'alice', incarnation: 'one' } as const;
const guest = (config: Record<string, string>): WorldGuest => newGuest({ ...about, config });

/** As a person writes it: nothing is where the API would put it. */
const BY_HAND = `# for Ada
#[hatchery v1 vmid=105]

unprivileged: 1
cores: 4
lxc.idmap = u 0 100000 60000
lxc.cgroup2.memory.high: 1G
rootfs: ceph:vm-105-disk-0,size=50G
lxc.idmap: g 0 100000 60000

[pve:pending]
delete: mp1
memory: 2048

[before]
#a%3Ab
cores: 2
lxc.idmap: u 0 100000 65536
snaptime: 1700000000
`;

describe("a container's config file", () => {
  it('holds the description, sorted keys, the lxc lines, what waits and the snapshots', () => {
    const one = guest({ rootfs: 'ceph:vm-105-disk-0,size=8G', cores: '2', description: 'née: 100 %\nlast' });
    one.rawLines = [['lxc.idmap', 'u 0 100000 65536']];
    one.pending = { memory: '2048', swap: null };
    expect(textOf(one)).toBe(
      [
        '#n%C3%A9e%3A 100 %25',
        '#last',
        'cores: 2',
        'rootfs: ceph:vm-105-disk-0,size=8G',
        'lxc.idmap: u 0 100000 65536',
        '',
        '[pve:pending]',
        'delete: swap',
        'memory: 2048',
        '',
      ].join('\n'),
    );
  });

  it('stays as somebody wrote it until the API changes the guest, and is put in order then', () => {
    const one = guest({});
    expect(writeText(one, BY_HAND)).toEqual([]);
    expect(textOf(one)).toBe(BY_HAND);
    expect(one).toMatchObject({
      config: { cores: '4', description: ' for Ada\n[hatchery v1 vmid=105]', unprivileged: '1' },
      pending: { memory: '2048', mp1: null },
      rawLines: [
        ['lxc.idmap', 'u 0 100000 60000'],
        ['lxc.cgroup2.memory.high', '1G'],
        ['lxc.idmap', 'g 0 100000 60000'],
      ],
    });
    expect(one.snapshots.get('before')).toMatchObject({
      config: { cores: '2' },
      rawLines: [['lxc.idmap', 'u 0 100000 65536']],
      description: 'a:b',
      time: 1_700_000_000,
    });
    one.config['cores'] = '6';
    const text = textOf(one);
    expect(text).toMatch(
      /^# for Ada\n#\[hatchery v1 vmid=105\]\ncores: 6\nrootfs: .*\nunprivileged: 1\nlxc\.idmap: u /,
    );
    const again = guest({});
    writeText(again, text);
    expect({ ...again, handWritten: undefined }).toEqual({ ...one, handWritten: undefined });
  });

  it('says which lines mean nothing, and loses them with the next change', () => {
    const one = guest({});
    const text = 'cores: 2\nlxc.rootfs.path: /\nlxc.nosuch: 1\nhalf a li';
    expect(writeText(one, text)).toEqual([
      'vm 105 - lxc.rootfs.path: lxc.rootfs.path is auto generated from rootfs',
      'vm 105 - unable to parse config: lxc.nosuch: 1',
      'vm 105 - unable to parse config: half a li',
    ]);
    expect(textOf(one)).toBe(text);
    one.config['memory'] = '512';
    expect(textOf(one)).toBe('cores: 2\nmemory: 512\n');
  });
});
