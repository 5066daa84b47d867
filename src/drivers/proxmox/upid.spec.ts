import { describe, expect, it } from 'vitest';
import { parseUpid, percentOf, verdictOf } from './upid.js';

describe('UPIDs', () => {
  it('name node, start, type, the source of a clone, and the token', () => {
    expect(parseUpid('UPID:pve1:00000FA1:000F4240:6553F100:qmclone:9000:hatchery@pve!lab:')).toEqual({
      node: 'pve1',
      startedAtS: 0x6553f100,
      type: 'qmclone',
      id: '9000',
      user: 'hatchery@pve!lab',
    });
  });

  it.each([
    '',
    'UPID:pve1:1:2:3:qmclone:9000:x',
    'UPID:../x:00000FA1:000F4240:6553F100:qmclone:1:u:',
    'settled:105',
  ])('are not guessed from "%s"', (text) => {
    expect(parseUpid(text)).toBeUndefined();
  });
});

describe('verdicts', () => {
  it('call OK and warnings a success', () => {
    expect(verdictOf('OK', 'qmclone')).toEqual({ verdict: 'ok', warnings: 0 });
    expect(verdictOf('WARNINGS: 3', 'qmdestroy')).toEqual({ verdict: 'ok', warnings: 3 });
  });

  it('leave a task without a verdict unknown', () => {
    expect(verdictOf('unexpected status', 'qmclone').verdict).toBe('unknown');
    expect(verdictOf('', 'qmclone').verdict).toBe('unknown');
  });

  it('read the text of a failed task', () => {
    expect(
      verdictOf("clone failed: cfs-lock 'storage-ceph' error: got lock request timeout", 'qmclone'),
    ).toMatchObject({
      verdict: 'error',
      code: 'lock-timeout',
      retry: 'later',
    });
    expect(verdictOf('received interrupt', 'qmclone')).toMatchObject({ verdict: 'error', retry: 'never' });
  });

  it('know that a clone cannot take back what it made when the quorum is gone', () => {
    const text = 'clone failed: cluster not ready - no quorum?';
    expect(verdictOf(text, 'qmclone')).toMatchObject({ code: 'cluster-no-quorum', leavesVolume: true });
    expect(verdictOf(text, 'qmstart')).not.toHaveProperty('leavesVolume');
  });

  it('call the start of a running guest a success, but only of a start', () => {
    expect(verdictOf('VM 105 already running', 'qmstart')).toEqual({ verdict: 'ok', warnings: 0 });
    expect(verdictOf('VM 105 already running', 'qmclone').verdict).toBe('error');
  });
});

describe('progress', () => {
  it('is the last percentage of the log', () => {
    const lines = [
      'transferred 0.0 B of 8.0 GiB (0.00%)',
      'transferred 1.2 GiB of 8.0 GiB (15.01%)',
      'something else',
    ];
    expect(percentOf(lines)).toBe(15.01);
    expect(percentOf(['create linked clone of drive scsi0'])).toBeUndefined();
  });
});
