import { HatcheryError, type ErrorCode, type ErrorMore, type Retry } from '../../core/errors.js';
import { cleanText } from '../remote-text.js';
import { aclCommand, spoken } from './rights.js';

/** What the driver itself needs to tell apart; kept in `facts.reason` of the error. */
export type RemoteReason =
  | 'already-exists'
  | 'config-missing'
  | 'digest-mismatch'
  | 'task-missing'
  | 'agent-silent'
  | 'still-running'
  | 'already-running'
  | 'not-running'
  | 'node-unreachable'
  | 'protected'
  | 'pool-missing'
  | 'locked'
  | 'volume-left';

/** A request as error texts speak of it: "Unable to <what>: ...". */
export interface RemoteRequest {
  readonly what: string;
  readonly isWrite: boolean;
  /** Whom the cluster takes us for. */
  readonly identity: string;
}

/** A whole HTTP answer, not yet judged. */
export interface RemoteAnswer {
  readonly status: number;
  readonly reasonPhrase: string;
  readonly body: string;
}

/** How a known sentence of the remote side is read. */
export interface TextReading {
  readonly code: ErrorCode;
  readonly retry: Retry;
  readonly reason?: RemoteReason;
  readonly hint?: string;
}

interface TextRule extends TextReading {
  readonly text: RegExp;
  /** Where the sentence is made. */
  readonly emitter: string;
}

const BUSY = { code: 'lock-timeout', retry: 'later', reason: 'locked' } as const;
const EXISTS = { code: 'remote-refused', retry: 'later', reason: 'already-exists' } as const;
const MISSING = { code: 'remote-refused', retry: 'later', reason: 'config-missing' } as const;
const SILENT = { code: 'remote-refused', retry: 'later', reason: 'agent-silent' } as const;
const LEFT = { code: 'remote-refused', retry: 'later', reason: 'volume-left' } as const;
const CHANGED = { code: 'remote-refused', retry: 'later', reason: 'digest-mismatch' } as const;

/** The one table of remote sentences. Each is matched narrowly and has a case in the spec; what is not here is `remote-refused`, never retried. */
export const TEXT_RULES: readonly TextRule[] = [
  { text: /can't lock file '[^']+' - got timeout/, emitter: 'PVE::Tools lock_file_full', ...BUSY },
  { text: /cfs-lock '[^']+' error: got lock request timeout/, emitter: 'PVE::Cluster cfs_lock', ...BUSY },
  {
    text: /^(?:VM|CT) is locked \([a-z-]+\)$/,
    emitter: 'PVE::AbstractConfig check_lock',
    ...BUSY,
    hint: 'wait for the job that holds it; if nothing runs any more, an admin unlocks with: qm unlock <VMID> (pct unlock for a container)',
  },
  {
    text: /'[^']+'-locked command timed out - aborting/,
    emitter: 'PVE::Cluster cfs_lock, work longer than 60 s',
    code: 'outcome-unknown',
    retry: 'later',
    // It was cut in the middle: what it was making may be there.
    reason: 'volume-left',
  },
  {
    text: /^(?:interrupted by signal|received interrupt)$/,
    emitter: 'somebody stopped the task',
    code: 'remote-refused',
    retry: 'never',
    reason: 'volume-left',
  },
  { text: /rbd: create error: \(17\) File exists/, emitter: 'PVE::Storage::RBDPlugin', ...LEFT },
  { text: /Logical Volume "[^"]+" already exists in volume group/, emitter: 'lvcreate', ...LEFT },
  { text: /cannot create '[^']+': dataset already exists/, emitter: 'zfs create', ...LEFT },
  { text: /disk image '[^']+' already exists/, emitter: 'PVE::Storage::Plugin alloc_image', ...LEFT },
  {
    text: /no space left on device/i,
    emitter: 'the storage (ENOSPC)',
    code: 'no-capacity',
    retry: 'after-fix',
    hint: 'make room on the storage, then retry the runs that wait for it',
  },
  {
    text: /^volume '[^']+' does not exist$/,
    emitter: 'PVE::Storage::Plugin activate_volume: an old attribute cache, or another node made it',
    code: 'remote-refused',
    retry: 'later',
  },
  {
    text: /^can't open '[^']+\/snippets\/[^']+' - No such file or directory$/,
    emitter:
      'PVE::QemuServer::Cloudinit read_cloudinit_snippets_file: it is not on the node that starts the guest',
    code: 'remote-refused',
    retry: 'later',
  },
  {
    text: /cluster not ready - no quorum\?|cfs-lock '[^']+' error: no quorum!/,
    emitter: 'PVE::Cluster check_cfs_quorum, and cfs_lock',
    code: 'cluster-no-quorum',
    retry: 'later',
    hint: 'reads go on, writes resume by themselves when the cluster has quorum again',
  },
  {
    text: /^checksum mismatch \(file change by other user\?\)/,
    emitter: 'PVE::Tools assert_if_modified',
    ...CHANGED,
  },
  {
    text: /detected modified configuration - file changed by other user\? Try again\./,
    emitter: 'PVE::Tools assert_if_modified, newer wording',
    ...CHANGED,
  },
  {
    text: /^unable to create VM \d+: config file already exists/,
    emitter: 'PVE::API2::Qemu clone_vm',
    ...EXISTS,
  },
  {
    text: /(?:VM|CT) \d+ already exists on node '[^']+'/,
    emitter: 'PVE::Cluster check_vmid_unused',
    ...EXISTS,
  },
  { text: /^VM \d+ already exists$/, emitter: 'PVE::API2::Cluster nextid', ...EXISTS },
  {
    text: /close \(rename\) atomic file '[^']+\.conf' failed: File exists/,
    emitter: 'PVE::Tools file_set_contents on pmxcfs',
    ...EXISTS,
  },
  {
    text: /Configuration file '[^']+' does not exist/,
    emitter: 'PVE::AbstractConfig load_config',
    ...MISSING,
  },
  {
    text: /unable to find configuration file for VM \d+ on node '[^']+'/,
    emitter: 'PVE::API2::Qemu clone_vm',
    ...MISSING,
  },
  {
    text: /^pool '[^']+' does not exist$/,
    emitter: 'PVE::API2::Pool index',
    code: 'remote-refused',
    retry: 'after-fix',
    reason: 'pool-missing',
    hint: 'make the pool: pveum pool add <pool>',
  },
  {
    text: /^no such task$/,
    emitter: 'PVE::API2::Tasks, parameter upid',
    code: 'remote-refused',
    retry: 'never',
    reason: 'task-missing',
  },
  { text: /^QEMU guest agent is not running$/, emitter: 'PVE::QemuServer::Agent agent_available', ...SILENT },
  { text: /^VM \d+ is not running$/, emitter: 'PVE::QemuServer::Agent agent_available', ...SILENT },
  {
    text: /^VM \d+ qmp command 'guest-[a-z-]+' failed - got timeout$/,
    emitter: 'PVE::QMPClient',
    ...SILENT,
  },
  {
    text: /^VM \d+ is running - destroy failed$/,
    emitter: 'PVE::API2::Qemu destroy_vm',
    code: 'remote-refused',
    retry: 'later',
    reason: 'still-running',
  },
  {
    text: /^CT \d+ already running$/,
    emitter: 'PVE::API2::LXC::Status vm_start',
    code: 'remote-refused',
    retry: 'later',
    reason: 'already-running',
  },
  {
    text: /^CT \d+ not running$/,
    emitter: 'PVE::API2::LXC::Status vm_stop',
    code: 'remote-refused',
    retry: 'later',
    reason: 'not-running',
  },
  {
    text: /^unable to destroy CT \d+ - container is running$/,
    emitter: 'PVE::API2::LXC destroy_vm',
    code: 'remote-refused',
    retry: 'later',
    reason: 'still-running',
  },
  {
    text: /^can't remove (?:VM|CT) \d+ - protection mode enabled$/,
    emitter: 'PVE::AbstractConfig check_protection',
    code: 'remote-refused',
    retry: 'after-fix',
    reason: 'protected',
    hint: 'somebody protected this guest: ask why, then an admin runs qm set <VMID> --protection 0 (pct set for a container)',
  },
];

const UNKNOWN_SENTENCE: TextReading = { code: 'remote-refused', retry: 'never' };

/** Reads a sentence of the remote side: an error message or the exit text of a task. */
export function readText(text: string): TextReading {
  return TEXT_RULES.find((rule) => rule.text.test(text)) ?? UNKNOWN_SENTENCE;
}

/** It is certain that nothing was sent: no connection, no trust, or the target node cannot be reached. */
export function notSent(request: RemoteRequest, why: string, more: ErrorMore = {}): HatcheryError {
  return new HatcheryError('cluster-unreachable', `Unable to ${request.what}: ${cleanText(why)}`, {
    retry: 'later',
    ...more,
  });
}

/** The request left and no usable answer came: unknown for a write, merely late for a read. */
export function noAnswer(request: RemoteRequest, why: string, cause?: unknown): HatcheryError {
  if (!request.isWrite) return notSent(request, why, { cause });
  return new HatcheryError(
    'outcome-unknown',
    `Unable to ${request.what}: sent, but no usable answer (${cleanText(why)})`,
    {
      retry: 'later',
      hint: 'nothing is repeated before a look at the cluster tells what became of it',
      cause,
    },
  );
}

/** Judges an answer that is not a success. */
export function refusal(request: RemoteRequest, answer: RemoteAnswer): HatcheryError {
  const { sentence, texts } = sentencesOf(answer);
  const message = `Unable to ${request.what}: ${sentence}`;
  switch (answer.status) {
    case 595:
      return notSent(request, `the node cannot be reached (${sentence})`, {
        facts: { reason: 'node-unreachable' },
      });
    case 596:
    case 597:
    case 599:
    case 502:
    case 503:
    case 504:
      return noAnswer(request, `status ${answer.status}, ${sentence}`);
    case 401:
      return new HatcheryError(
        'permission-missing',
        `Unable to ${request.what}: the cluster does not accept ${spoken(request.identity)} (${sentence})`,
        {
          retry: 'after-fix',
          hint: request.identity.includes('!')
            ? 'check the token id, its secret, and that neither user nor token is disabled or expired'
            : 'check user name and password, and that the user is neither disabled nor expired',
        },
      );
    case 403:
      return forbidden(request, sentence, message);
    default:
  }
  for (const text of texts) {
    const { code, retry, reason, hint } = readText(text);
    if (code === UNKNOWN_SENTENCE.code && reason === undefined) continue;
    return new HatcheryError(code, message, {
      retry,
      ...(hint && { hint }),
      facts: { ...(reason && { reason }) },
    });
  }
  return new HatcheryError('remote-refused', message, { retry: 'never', facts: { status: answer.status } });
}

/** The password was right, and somebody would have to type a code now. */
export function needsSecondFactor(request: RemoteRequest): HatcheryError {
  return new HatcheryError(
    'permission-missing',
    `Unable to ${request.what}: ${spoken(request.identity)} needs a second factor`,
    {
      retry: 'after-fix',
      hint: 'use an API token (pveum user token add), or a user without a second factor',
    },
  );
}

function forbidden(request: RemoteRequest, sentence: string, message: string): HatcheryError {
  const named = /\((\/[^,\s]*), ([A-Za-z.|]+)\)/.exec(sentence);
  const [, path, privilege] = named ?? [];
  const hint =
    path === undefined
      ? `check the rights of ${spoken(request.identity)}: hatchery cluster check says which one is missing`
      : `give the right: ${aclCommand(path, request.identity, `<a role with ${privilege}>`)}`;
  return new HatcheryError('permission-missing', message, {
    retry: 'after-fix',
    hint,
    facts: path === undefined ? {} : { path, privilege },
  });
}

/** body.message (PVE 8.4 and later), else a short raw body of the HTTP layer, else the reason phrase; then the texts of single parameters. */
function sentencesOf(answer: RemoteAnswer): { sentence: string; texts: readonly string[] } {
  const json = parseObject(answer.body);
  const raw = json === undefined && /^[^<\n]{1,300}$/.test(answer.body) ? answer.body : '';
  const main = typeof json?.['message'] === 'string' ? json['message'] : raw || answer.reasonPhrase;
  const errors = json?.['errors'];
  const parameters =
    typeof errors === 'object' && errors !== null
      ? Object.entries(errors).map(([name, text]) => [name, cleanText(String(text))] as const)
      : [];
  const first = cleanText(main) || `status ${answer.status} without a word`;
  return {
    sentence: [first, ...parameters.map(([name, text]) => `${name}: ${text}`)].join(' '),
    texts: [first, ...parameters.map(([, text]) => text)],
  };
}

function parseObject(body: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** The driver's own reading of an error it threw; `undefined` for everything else. */
export function reasonOf(error: unknown): RemoteReason | undefined {
  return error instanceof HatcheryError ? (error.facts['reason'] as RemoteReason | undefined) : undefined;
}
