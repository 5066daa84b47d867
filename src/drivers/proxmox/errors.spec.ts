import { describe, expect, it } from 'vitest';
import { HatcheryError } from '../../core/errors.js';
import { noAnswer, notSent, readText, reasonOf, refusal, TEXT_RULES, type RemoteRequest } from './errors.js';
import { cleanText } from '../remote-text.js';

const write: RemoteRequest = {
  what: 'clone template 9000 into VMID 10001',
  isWrite: true,
  identity: 'hatchery@pve!lab',
};
const read: RemoteRequest = { ...write, what: 'read guest 10001', isWrite: false };
const json = (status: number, message: string, errors?: Record<string, string>) => ({
  status,
  reasonPhrase: message,
  body: JSON.stringify({ data: null, message: `${message}\n`, ...(errors && { errors }) }),
});

/** Each text as its emitter prints it; the emitters stand in the table. */
const KNOWN: readonly (readonly [string, string, string, string | undefined])[] = [
  ["can't lock file '/var/lock/qemu-server/lock-105.conf' - got timeout", 'lock-timeout', 'later', 'locked'],
  [
    "clone failed: cfs-lock 'storage-ceph' error: got lock request timeout",
    'lock-timeout',
    'later',
    'locked',
  ],
  ['VM is locked (clone)', 'lock-timeout', 'later', 'locked'],
  ['CT is locked (disk)', 'lock-timeout', 'later', 'locked'],
  [
    "clone failed: 'storage-ceph'-locked command timed out - aborting",
    'outcome-unknown',
    'later',
    'volume-left',
  ],
  ['cluster not ready - no quorum?', 'cluster-no-quorum', 'later', undefined],
  [
    "update pools failed: cfs-lock 'file-user_cfg' error: no quorum!",
    'cluster-no-quorum',
    'later',
    undefined,
  ],
  ['checksum mismatch (file change by other user?)', 'remote-refused', 'later', 'digest-mismatch'],
  [
    'detected modified configuration - file changed by other user? Try again.',
    'remote-refused',
    'later',
    'digest-mismatch',
  ],
  ['unable to create VM 105: config file already exists', 'remote-refused', 'later', 'already-exists'],
  [
    "unable to create VM 105 - CT 105 already exists on node 'pve1'",
    'remote-refused',
    'later',
    'already-exists',
  ],
  ['VM 105 already exists', 'remote-refused', 'later', 'already-exists'],
  [
    "close (rename) atomic file '/etc/pve/nodes/pve1/qemu-server/105.conf' failed: File exists",
    'remote-refused',
    'later',
    'already-exists',
  ],
  [
    "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist",
    'remote-refused',
    'later',
    'config-missing',
  ],
  [
    "unable to find configuration file for VM 8000 on node 'pve02'",
    'remote-refused',
    'later',
    'config-missing',
  ],
  ['interrupted by signal', 'remote-refused', 'never', 'volume-left'],
  ['received interrupt', 'remote-refused', 'never', 'volume-left'],
  [
    "rbd create 'vm-1021-cloudinit' error: rbd: create error: (17) File exists",
    'remote-refused',
    'later',
    'volume-left',
  ],
  [
    `lvcreate 'pve/vm-1021-cloudinit' error:   Logical Volume "vm-1021-cloudinit" already exists in volume group "pve"`,
    'remote-refused',
    'later',
    'volume-left',
  ],
  [
    "zfs error: cannot create 'rpool/data/vm-1021-disk-0': dataset already exists",
    'remote-refused',
    'later',
    'volume-left',
  ],
  [
    "disk image '/mnt/pve/nas/images/1021/vm-1021-cloudinit.qcow2' already exists",
    'remote-refused',
    'later',
    'volume-left',
  ],
  ['rbd: create error: (28) No space left on device', 'no-capacity', 'after-fix', undefined],
  ["volume 'nas:1021/vm-1021-disk-0.qcow2' does not exist", 'remote-refused', 'later', undefined],
  [
    "can't open '/var/lib/vz/snippets/hatchery.yaml' - No such file or directory",
    'remote-refused',
    'later',
    undefined,
  ],
  ["pool 'hatchery-lab' does not exist", 'remote-refused', 'after-fix', 'pool-missing'],
  ['no such task', 'remote-refused', 'never', 'task-missing'],
  ['QEMU guest agent is not running', 'remote-refused', 'later', 'agent-silent'],
  ['VM 105 is not running', 'remote-refused', 'later', 'agent-silent'],
  [
    "VM 105 qmp command 'guest-network-get-interfaces' failed - got timeout",
    'remote-refused',
    'later',
    'agent-silent',
  ],
  ['VM 105 is running - destroy failed', 'remote-refused', 'later', 'still-running'],
  ['CT 105 already running', 'remote-refused', 'later', 'already-running'],
  ['CT 105 not running', 'remote-refused', 'later', 'not-running'],
  ['unable to destroy CT 105 - container is running', 'remote-refused', 'later', 'still-running'],
  ["can't remove VM 105 - protection mode enabled", 'remote-refused', 'after-fix', 'protected'],
  ["can't remove CT 105 - protection mode enabled", 'remote-refused', 'after-fix', 'protected'],
];

describe('sentences of the remote side', () => {
  it.each(KNOWN)('reads "%s"', (text, code, retry, reason) => {
    expect(readText(text)).toMatchObject({ code, retry });
    expect(readText(text).reason).toBe(reason);
  });

  it('has a case for every row of the table', () => {
    for (const rule of TEXT_RULES)
      expect(
        KNOWN.some(([text]) => rule.text.test(text)),
        rule.emitter,
      ).toBe(true);
  });

  it.each([
    'storage is full',
    'VM is locked',
    'timeout',
    "no such cluster node 'x'",
    'my VM 105 already exists',
  ])('never retries what it does not know: "%s"', (text) => {
    expect(readText(text)).toEqual({ code: 'remote-refused', retry: 'never' });
  });
});

describe('answers of the API', () => {
  it('takes the message of the body before the reason phrase, and adds the texts of parameters', () => {
    const error = refusal(
      write,
      json(400, 'Parameter verification failed.', { newid: 'VM 105 already exists' }),
    );
    expect(error.message).toBe(
      'Unable to clone template 9000 into VMID 10001: Parameter verification failed. newid: VM 105 already exists',
    );
    expect(reasonOf(error)).toBe('already-exists');
  });

  it('takes the reason phrase where there is no message (before 8.4, and every 401)', () => {
    const error = refusal(write, {
      status: 500,
      reasonPhrase: 'VM is locked (backup)',
      body: '{"data":null}',
    });
    expect(error).toMatchObject({ code: 'lock-timeout', retry: 'later' });
  });

  it('takes a short raw body of the HTTP layer', () => {
    const error = refusal(write, {
      status: 501,
      reasonPhrase: 'Not Implemented',
      body: 'for data too large',
    });
    expect(error).toMatchObject({ code: 'remote-refused', retry: 'never' });
    expect(error.message).toContain('for data too large');
  });

  it('names the token and never waits by itself when the token is not accepted', () => {
    const error = refusal(write, { status: 401, reasonPhrase: 'Authentication failed!', body: '' });
    expect(error).toMatchObject({ code: 'permission-missing', retry: 'after-fix' });
    expect(error.message).toContain('hatchery@pve!lab');
    expect(error.message).toContain('Authentication failed!');
  });

  it('says which command gives the missing right', () => {
    const error = refusal(
      write,
      json(403, 'Permission check failed (/sdn/zones/localnetwork/vmbr0, SDN.Use)'),
    );
    expect(error).toMatchObject({ code: 'permission-missing', retry: 'after-fix' });
    expect(error.hint).toContain(
      "pveum acl modify /sdn/zones/localnetwork/vmbr0 --users 'hatchery@pve' --tokens 'hatchery@pve!lab'",
    );
    expect(error.hint).toContain('SDN.Use');
  });

  it('reads 595 as not sent, and 596, 597 and 599 of a write as an unknown outcome', () => {
    const answer = (status: number) => ({ status, reasonPhrase: 'Connection timed out', body: '' });
    expect(refusal(write, answer(595))).toMatchObject({ code: 'cluster-unreachable', retry: 'later' });
    for (const status of [596, 597, 599]) {
      expect(refusal(write, answer(status))).toMatchObject({ code: 'outcome-unknown', retry: 'later' });
      expect(refusal(read, answer(status))).toMatchObject({ code: 'cluster-unreachable', retry: 'later' });
    }
  });

  it('lets nothing of a remote text reach a terminal', () => {
    const error = refusal(write, json(500, 'bad\u001b[31m thing\r\nsecond line\u202e'));
    // oxlint-disable-next-line no-control-regex -- that none is left is the claim
    expect(error.message).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
    expect(cleanText('x'.repeat(5_000))).toHaveLength(600);
  });
});

describe('calls without an answer', () => {
  it('are unreachable when nothing was sent, unknown when a write was, and merely late for a read', () => {
    expect(notSent(write, 'connect ECONNREFUSED')).toMatchObject({
      code: 'cluster-unreachable',
      retry: 'later',
    });
    expect(noAnswer(write, 'socket hang up')).toMatchObject({ code: 'outcome-unknown', retry: 'later' });
    expect(noAnswer(read, 'socket hang up')).toMatchObject({ code: 'cluster-unreachable', retry: 'later' });
    expect(noAnswer(read, 'x')).toBeInstanceOf(HatcheryError);
  });
});
