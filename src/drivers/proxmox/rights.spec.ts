import { describe, expect, it } from 'vitest';
import { grantCommand, outsideFindings, writesOutsidePool, type Rights } from './rights.js';

const token = 'hatchery@pve!lab';
const pool = 'hatchery-lab';
const good: [string, string[]][] = [
  ['/', ['Sys.Audit']],
  ['/vms', ['VM.Audit']],
  ['/vms/9000', ['VM.Audit', 'VM.Clone']],
  [
    `/pool/${pool}`,
    [
      ...['VM.Allocate', 'VM.Audit', 'VM.Clone', 'VM.PowerMgmt', 'VM.GuestAgent.Audit', 'Pool.Audit'],
      ...['CDROM', 'CPU', 'Cloudinit', 'Disk', 'HWType', 'Memory', 'Network', 'Options'].map(
        (key) => `VM.Config.${key}`,
      ),
    ],
  ],
  ['/storage/ceph', ['Datastore.AllocateSpace', 'Datastore.Audit']],
  ['/sdn/zones/localnetwork', ['SDN.Use']],
];
const rights = (...more: [string, string[]][]): Rights =>
  new Map([...good, ...more].map(([path, held]) => [path, new Set(held)]));

describe('the rights of a token', () => {
  it('are right when it reads everything and writes only through its pool', () => {
    expect(writesOutsidePool(rights(), pool, new Set())).toEqual([]);
  });

  it.each(['/', '/vms', '/vms/100', '/pool', '/pool/prod'])('are refused when it may write on %s', (path) => {
    const outside = writesOutsidePool(
      rights([path, ['VM.Audit', 'VM.Allocate', 'VM.Config.Disk']]),
      pool,
      new Set(),
    );
    const found = outsideFindings(outside, token, false);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatchObject({ ok: false, subject: `rights on ${path}` });
    expect(found[0]!.detail).toContain('VM.Allocate, VM.Config.Disk');
    expect(found[0]!.remedy).toContain(`pveum acl delete ${path} --tokens '${token}'`);
  });

  it('that reach too far are a warning when the site accepts them', () => {
    const outside = writesOutsidePool(rights(['/vms', ['VM.Allocate']]), pool, new Set());
    expect(outsideFindings(outside, 'root@pam!shared', true)).toMatchObject([
      { ok: true, warning: true, detail: expect.stringContaining('accepted by mayWriteOutsidePool') },
    ]);
  });

  it('of an account are given and taken by its user name alone', () => {
    const [found] = outsideFindings([{ path: '/vms', privileges: ['VM.Allocate'] }], 'lab@pve', false);
    expect(found?.detail).toContain('the account lab@pve');
    expect(found?.remedy).toBe("pveum acl delete /vms --users 'lab@pve' --roles <the role that gives them>");
    expect(grantCommand('/', 'lab@pve', 'HatcherySys', 'Sys.Audit')).toBe(
      "pveum role add HatcherySys --privs 'Sys.Audit' || pveum role modify HatcherySys --privs 'Sys.Audit' --append 1; pveum acl modify / --users 'lab@pve' --roles HatcherySys",
    );
  });

  it('include those on guests of the own pool', () => {
    const own = rights(['/vms/10001', ['VM.Allocate']]);
    expect(writesOutsidePool(own, pool, new Set(['/vms/10001']))).toEqual([]);
  });
});
