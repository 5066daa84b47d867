import { describe, expect, it } from 'vitest';
import { missingRights, tooMuchRights, type Rights } from './rights.js';

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
    expect(tooMuchRights(rights(), token, pool, new Set())).toEqual([]);
    expect(missingRights(rights(), token, pool)).toEqual([]);
  });

  it.each(['/', '/vms', '/vms/100', '/pool', '/pool/prod'])('are refused when it may write on %s', (path) => {
    const found = tooMuchRights(
      rights([path, ['VM.Audit', 'VM.Allocate', 'VM.Config.Disk']]),
      token,
      pool,
      new Set(),
    );
    expect(found).toHaveLength(1);
    expect(found[0]).toMatchObject({ ok: false, subject: `rights on ${path}` });
    expect(found[0]!.detail).toContain('VM.Allocate, VM.Config.Disk');
    expect(found[0]!.remedy).toContain(`pveum acl delete ${path} --tokens '${token}'`);
  });

  it('include those on guests of the own pool', () => {
    const own = rights(['/vms/10001', ['VM.Allocate']]);
    expect(tooMuchRights(own, token, pool, new Set(['/vms/10001']))).toEqual([]);
  });

  it('that are missing come with the command that gives them', () => {
    const found = missingRights(new Map([['/vms', new Set(['VM.Audit'])]]), token, pool);
    expect(found.map((finding) => finding.subject)).toEqual([
      'Sys.Audit on /',
      `rights on /pool/${pool}`,
      `Pool.Audit on /pool/${pool}`,
      `VM.GuestAgent.Audit on /pool/${pool}`,
      'Datastore.AllocateSpace',
      'SDN.Use',
    ]);
    for (const finding of found) expect(finding.remedy).toContain(`--tokens '${token}'`);
  });
});
