import { describe, expect, it } from 'vitest';
import { homesFinding, identityFindings, reportsFinding, workFinding } from './node-findings.js';

const RANGE = { from: 600_000_000, count: 999_999_999 };
const NEEDS = { identities: [RANGE], homes: {}, reports: false };
const BASE = { start: 100_000, count: 65_536 };
const DOMAIN = { start: 600_000_000, count: 999_999_999 };

describe('what is found on a node', () => {
  const told = { node: 'pve1', uid: 0, isProxmox: true, hasQuorum: true };
  it.each([
    [{}, true, 'host key as pinned'],
    [{ node: 'pve2' }, false, 'it is pve2 that answers there'],
    [{ uid: 1000 }, false, 'only root'],
    [{ isProxmox: false }, false, 'no node of a cluster'],
    [{ hasQuorum: false }, false, 'no quorum'],
  ])('can be worked on or not: %j', (more, ok, detail) => {
    expect(workFinding('pve1', 'main', { ...told, ...more })).toMatchObject({
      ok,
      subject: 'SSH to pve1',
      detail: expect.stringContaining(detail) as string,
    });
  });

  it('has the identities that containers may get, or names the lines that it lacks, by file', () => {
    expect(identityFindings('pve1', NEEDS, { uid: [BASE, DOMAIN], gid: [BASE, DOMAIN] })).toMatchObject([
      { ok: true, detail: 'root may map 600000000-1599999998 into containers' },
    ]);
    expect(identityFindings('pve1', NEEDS, { uid: [BASE, DOMAIN], gid: [BASE] })).toEqual([
      {
        ok: false,
        subject: 'identities on pve1',
        detail: '/etc/subgid lacks them: no container with them starts there',
        remedy: 'on pve1: echo root:600000000:999999999 >> /etc/subgid',
      },
    ]);
    expect(identityFindings('pve1', { ...NEEDS, identities: [] }, { uid: [], gid: [] })).toEqual([]);
  });

  it('has the share of the homes mounted, or only the folder that waits for it', () => {
    const root = '/mnt/homes';
    const at = (mount: string) => ({ path: root, isDirectory: true, mount });
    expect(homesFinding('pve1', 'students', root, at('/mnt'))).toMatchObject({ ok: true });
    expect(homesFinding('pve1', 'students', root, at('/'))).toMatchObject({
      ok: false,
      detail: 'nothing is mounted at /mnt/homes',
    });
    expect(homesFinding('pve1', 'students', root, undefined)).toMatchObject({ ok: false });
    expect(homesFinding('pve1', 'students', root, { ...at('/mnt'), isDirectory: false })).toMatchObject({
      ok: false,
    });
  });

  it('has reports where they fill nothing but their own place, or a warning', () => {
    const path = '/var/lib/hatchery/reports';
    expect(reportsFinding('pve1', { path, isDirectory: true, mount: path })).not.toHaveProperty('warning');
    expect(reportsFinding('pve1', { path, isDirectory: true, mount: '/var' })).toMatchObject({
      ok: true,
      warning: true,
    });
    expect(reportsFinding('pve1', undefined)).toMatchObject({ ok: true, warning: true });
  });
});
