import { HatcheryError } from '../../core/errors.js';
import { describeWithMark } from '../../core/mark.js';
import type { Call } from '../../ports/call.js';
import type { GuestRef, TaskRef, TaskVerdict } from '../../ports/hypervisor.js';
import { writeAs, type Cluster } from './cluster.js';
import { reasonOf } from './errors.js';
import { incarnationOf } from './guest-config.js';
import { guestPath, KINDS } from './guest-kind.js';
import type { WriteRequest } from './http.js';
import {
  foreignGuest,
  needOwned,
  type GuestPlace,
  type GuestReads,
  type Owned,
  type OwnedLookup,
} from './guests.js';
import type { Tasks } from './tasks.js';
import { parseUpid } from './upid.js';
import { upid } from './wire.js';

export interface DestroyOptions {
  /** Any of them; none = never read. */
  readonly incarnations: readonly string[];
  readonly deletingRun: string;
}

const GONE_POLLS = 5;
const GONE_POLL_MS = 1_000;

/**
 * Safe delete: read, match mark and incarnation, write the deleting mark with the digest, stop, wait, read again, DELETE, follow, verify gone.
 * Each call begins with a read, so a delete that was cut anywhere is taken up where it stands. Nothing is deleted on a mismatch.
 */
export class SafeDelete {
  readonly #cluster: Cluster;
  readonly #guests: GuestReads;
  readonly #tasks: Tasks;

  constructor(cluster: Cluster, guests: GuestReads, tasks: Tasks) {
    this.#cluster = cluster;
    this.#guests = guests;
    this.#tasks = tasks;
  }

  async destroy(guest: GuestRef, options: DestroyOptions, call: Call): Promise<{ existed: boolean }> {
    const { vmid } = guest;
    const what = `delete guest ${vmid}`;
    const first = await this.#guests.readOwned(guest, call.signal);
    if (first.answer === 'none') return { existed: false };
    const owned = needSame(what, vmid, options, first);
    const isResumed = owned.mark.deleting === options.deletingRun;
    const underWay = isResumed ? await this.#runningDestroy(owned, vmid, call) : undefined;
    if (underWay === undefined) {
      refuseProtected(what, owned);
      if (!isResumed) await this.#markDeleting(what, owned, options, call);
      await this.#stop(owned, vmid, call);
      // Somebody may have changed hands with the id while it stopped.
      const read = await this.#guests.readOwned(guest, call.signal);
      const last = needSame(what, vmid, options, read);
      const task = await this.#sendDelete(what, vmid, last, call);
      if (task) refuseFailure(what, task, await this.#tasks.follow(task, call));
    } else {
      refuseFailure(what, underWay, await this.#tasks.follow(underWay, call));
    }
    await this.#verifyGone(what, vmid, call);
    return { existed: true };
  }

  /** The digest makes it a compare-and-set, the only one that the API offers: whoever changed the guest since our read stops the delete. */
  async #markDeleting(
    what: string,
    { node, kind, config, mark }: Owned,
    { deletingRun }: DestroyOptions,
    call: Call,
  ): Promise<void> {
    const human = (config.description ?? '').trimEnd().split('\n').slice(0, -1).join('\n');
    const description = describeWithMark(human, { ...mark, deleting: deletingRun });
    const path = `${guestPath(node, kind, mark.vmid)}/config`;
    await this.#cluster.http.write(
      { op: 'config-write', what, method: 'PUT', node, path, params: { description, digest: config.digest } },
      call,
    );
  }

  async #stop({ node, kind }: GuestPlace, vmid: number, call: Call): Promise<void> {
    if ((await this.#guests.status({ node, kind }, vmid, call.signal)) === 'stopped') return;
    const what = `stop guest ${vmid}`;
    const path = `${guestPath(node, kind, vmid)}/status/stop`;
    const id = await this.#sendStop({ op: 'stop', what, method: 'POST', node, path }, call);
    if (id === undefined) return;
    // Whoever starts it again makes the cluster refuse the DELETE.
    refuseFailure(what, { id }, await this.#tasks.follow({ id }, call));
  }

  /** `undefined` = off before our request came, which only a container is refused for. */
  async #sendStop(request: WriteRequest, call: Call): Promise<string | undefined> {
    try {
      return await writeAs(this.#cluster, upid, request, call);
    } catch (error) {
      if (reasonOf(error) === 'not-running') return undefined;
      throw error;
    }
  }

  /** `undefined` = gone before our request came. */
  async #sendDelete(
    what: string,
    vmid: number,
    { node, kind }: GuestPlace,
    call: Call,
  ): Promise<TaskRef | undefined> {
    const path = guestPath(node, kind, vmid);
    const request = { op: 'destroy', what, method: 'DELETE', node, path, params: { purge: true } } as const;
    try {
      return { id: await writeAs(this.#cluster, upid, request, call) };
    } catch (error) {
      if (reasonOf(error) === 'config-missing') return undefined;
      throw error;
    }
  }

  /** A DELETE that an earlier attempt sent and that still works: a second one would only wait for its lock. */
  async #runningDestroy({ node, kind }: GuestPlace, vmid: number, call: Call): Promise<TaskRef | undefined> {
    const typefilter = KINDS[kind].destroyTask;
    const rows = await this.#tasks.list(node, { source: 'active', vmid, typefilter }, call.signal);
    const running = rows.find((row) => {
      const task = parseUpid(row.upid);
      const isRunning = row.endtime === undefined && (row.status === undefined || row.status === 'RUNNING');
      return isRunning && task?.type === typefilter && task.id === String(vmid);
    });
    return running && { id: running.upid };
  }

  async #verifyGone(what: string, vmid: number, call: Call): Promise<void> {
    const pollMs = Math.max(200, GONE_POLL_MS * this.#cluster.remoteTimeScale);
    for (let poll = 1; poll <= GONE_POLLS; poll += 1) {
      if (await this.#guests.isGone(vmid, call.signal)) return;
      await this.#cluster.clock.sleep(pollMs, call.signal);
    }
    throw new HatcheryError(
      'outcome-unknown',
      `Unable to ${what}: it was sent, but the guest is not seen to be gone`,
      {
        retry: 'later',
      },
    );
  }
}

/** Mark and incarnation both match. */
function needSame(what: string, vmid: number, { incarnations }: DestroyOptions, read: OwnedLookup): Owned {
  const owned = needOwned(what, vmid, read);
  const seen = incarnationOf(owned);
  if (incarnations.length === 0 || incarnations.some((one) => one.toLowerCase() === seen)) return owned;
  const lacks = owned.kind === 'qemu' ? 'no SMBIOS UUID' : 'no MAC';
  const why = `it bears our mark but is another incarnation (${seen ?? lacks} instead of ${incarnations.join(' or ')})`;
  throw foreignGuest(what, vmid, why);
}

function refuseProtected(what: string, { config, node, kind, mark }: Owned): void {
  if (!config.protection) return;
  throw new HatcheryError('remote-refused', `Unable to ${what}: somebody protected it`, {
    retry: 'after-fix',
    hint: `ask why; an admin takes the protection off on ${node}: ${KINDS[kind].tool} set ${mark.vmid} --protection 0`,
    facts: { reason: 'protected' },
  });
}

/** A task without a verdict is judged by what is left; one that failed says why. */
function refuseFailure(what: string, task: TaskRef, verdict: TaskVerdict): void {
  if (verdict.verdict !== 'error') return;
  throw new HatcheryError(verdict.code ?? 'remote-refused', `Unable to ${what}: ${verdict.text}`, {
    retry: verdict.retry ?? 'never',
    facts: { task: task.id },
  });
}
