import { clusterIdentity } from '../../core/definitions.js';
import { HatcheryError } from '../../core/errors.js';
import { parseMark, type MarkIdentity } from '../../core/mark.js';
import { plainCall, type Call } from '../../ports/call.js';
import type { CloneRequest, GuestRef, TaskRef, Trace } from '../../ports/hypervisor.js';
import { writeAs, type Cluster } from './cluster.js';
import { reasonOf } from './errors.js';
import { foreignGuest, type GuestReads } from './guests.js';
import type { ClusterReads } from './inventory.js';
import type { Tasks } from './tasks.js';
import type { Templates } from './templates.js';
import { parseUpid, SETTLED } from './upid.js';
import { upid } from './wire.js';

/** The node's clock and ours may differ by so much. */
const SKEW_S = 120;
/** How far back a clone is looked for when the request itself is told that its VMID is taken. */
const LOOK_BACK_MS = 3_600_000;
const SETTLE_POLLS = 2;
const SETTLE_MS = 1_000;

/** What a look at tasks and config told about one clone. */
type Evidence = Trace<TaskRef>;

/** Clones a template into a fixed VMID and finds out what became of a clone whose answer was lost. */
export class Clones {
  readonly #cluster: Cluster;
  readonly #reads: ClusterReads;
  readonly #guests: GuestReads;
  readonly #tasks: Tasks;
  readonly #templates: Templates;
  /** VMID that a clone task of a log makes; logs do not change. */
  readonly #madeBy = new Map<string, number>();

  constructor(parts: {
    cluster: Cluster;
    reads: ClusterReads;
    guests: GuestReads;
    tasks: Tasks;
    templates: Templates;
  }) {
    this.#cluster = parts.cluster;
    this.#reads = parts.reads;
    this.#guests = parts.guests;
    this.#tasks = parts.tasks;
    this.#templates = parts.templates;
  }

  /**
   * Sends the clone request, unless its VMID is taken: then the guest there is looked at first.
   * A guest with our mark is our own earlier clone and gives that clone's task; a foreign one is `foreign-guest`; what cannot be told yet is `outcome-unknown`.
   */
  async start(request: CloneRequest, call: Call): Promise<TaskRef> {
    const identity = this.#identityOf(request);
    await this.#templates.verifyPinned(request.template, call.signal);
    // A collision with another node shows only in the task's end: the shared inventory tells it before.
    const map = await this.#reads.map(this.#reads.ageMs, call.signal);
    if (map.guests.some((guest) => guest.vmid === request.vmid)) {
      const earlier = await this.#resolveTaken(request, identity, call);
      if (earlier) return earlier;
    }
    try {
      return await this.#send(request, call);
    } catch (error) {
      // The lock or the missing config of the refusal is the template's: it may have changed since the look before.
      if (['locked', 'config-missing'].includes(reasonOf(error) ?? ''))
        await this.#templates.verifyNow(request.template, call.signal);
      if (reasonOf(error) !== 'already-exists') throw error;
      const earlier = await this.#resolveTaken(request, identity, call);
      // Free again since the refusal: the next attempt sends.
      if (!earlier) throw error;
      return earlier;
    }
  }

  async #send(request: CloneRequest, call: Call): Promise<TaskRef> {
    const { template, vmid, name, node, mode, storage, description } = request;
    const isFull = mode === 'full';
    const id = await writeAs(
      this.#cluster,
      upid,
      {
        op: 'clone',
        what: `clone template ${template.vmid} into VMID ${vmid}`,
        method: 'POST',
        node: template.node,
        path: `/nodes/${template.node}/qemu/${template.vmid}/clone`,
        params: {
          newid: vmid,
          name,
          full: isFull,
          pool: this.#cluster.definition.pool,
          description,
          ...(node !== template.node && { target: node }),
          ...(isFull && storage !== undefined && { storage }),
        },
      },
      call,
    );
    this.#noteMade(id, vmid);
    this.#guests.expectAt(vmid, node);
    if (!isFull) this.#tasks.noteLinkedClone(id, template.storageShared);
    return { id };
  }

  /** The mark in the description is what makes the guest ours from its first moment: without it nothing is sent. */
  #identityOf(request: CloneRequest): MarkIdentity {
    const mark = parseMark(request.description);
    if (mark?.vmid === request.vmid && mark.deployment === this.#cluster.deployment) return mark;
    throw new HatcheryError(
      'internal',
      `Unable to clone into VMID ${request.vmid}: the description lacks the mark of this deployment`,
    );
  }

  /** The task of our own clone into a VMID that is said to be taken; `undefined` = nobody has it any more. */
  async #resolveTaken(
    request: CloneRequest,
    identity: MarkIdentity,
    call: Call,
  ): Promise<TaskRef | undefined> {
    const sinceMs = this.#cluster.clock.wallMs() - LOOK_BACK_MS;
    const evidence = await this.#look(request, identity, sinceMs, call.signal);
    if (evidence.found === 'nothing') return undefined;
    if (evidence.found !== 'unknown') return evidence.value;
    throw new HatcheryError(
      'outcome-unknown',
      `Unable to clone into VMID ${request.vmid}: it is taken, and ${evidence.why}`,
      { retry: 'later' },
    );
  }

  /** `nothing` only when two looks, a settle time apart, agree on it. Errors: `foreign-guest`. */
  async trace(request: CloneRequest, guest: GuestRef, sinceMs: number, call: Call): Promise<Trace<TaskRef>> {
    const settleMs = Math.max(200, SETTLE_MS * this.#cluster.remoteTimeScale);
    for (let poll = 1; ; poll += 1) {
      const evidence = await this.#look(request, guest, sinceMs, call.signal);
      if (evidence.found !== 'nothing' || poll > SETTLE_POLLS) return evidence;
      await this.#cluster.clock.sleep(settleMs, call.signal);
    }
  }

  async #look(
    request: CloneRequest,
    guest: GuestRef,
    sinceMs: number,
    signal: AbortSignal,
  ): Promise<Evidence> {
    const { vmid, node } = request;
    const tasks = await this.#cloneTasks(request, sinceMs, signal);
    if ('why' in tasks) return { found: 'unknown', ...tasks };
    if (tasks.running !== undefined) return { found: 'running', value: { id: tasks.running } };
    const own = await this.#guests.readOwn(guest, plainCall(signal), { withPool: true });
    switch (own.answer) {
      case 'foreign':
        throw foreignGuest(`clone into VMID ${vmid}`, vmid, own.why);
      case 'unknown':
        return { found: 'unknown', why: own.why, ...(own.cause && { cause: own.cause }) };
      case 'none':
        if (tasks.ended.some((task) => task.isOk))
          return { found: 'unknown', why: `a clone into VMID ${vmid} succeeded, but the guest is gone` };
        return { found: 'nothing' };
      case 'ours': {
        const made = own.guest;
        if (made.lock !== undefined)
          return {
            found: 'unknown',
            why: `guest ${vmid} is locked (${made.lock}), and no clone of it runs`,
          };
        // The task that succeeded; else the last one that failed, whose verdict says why the guest is not whole.
        const ended = tasks.ended.find((task) => task.isOk) ?? tasks.ended[0];
        if (ended) return { found: 'done', value: { id: ended.id } };
        if (made.node !== node)
          return { found: 'unknown', why: `guest ${vmid} is on ${made.node} instead of ${node}` };
        if (made.pool !== this.#cluster.definition.pool)
          return {
            found: 'unknown',
            why: `guest ${vmid} is not in the pool ${this.#cluster.definition.pool}`,
          };
        return { found: 'done', value: { id: `${SETTLED}${vmid}` } };
      }
    }
  }

  /** Our clone tasks of this template whose log names the VMID, newest first. The log line proves no success: a loser prints it too. */
  async #cloneTasks(
    request: CloneRequest,
    sinceMs: number,
    signal: AbortSignal,
  ): Promise<
    | { running: string | undefined; ended: { id: string; isOk: boolean }[] }
    | { why: string; cause?: HatcheryError }
  > {
    const since = Math.max(0, Math.floor(sinceMs / 1_000) - SKEW_S);
    const { template, vmid } = request;
    const ended: { id: string; isOk: boolean; startedAtS: number }[] = [];
    let running: string | undefined;
    try {
      const rows = await this.#tasks.list(
        template.node,
        { since, vmid: template.vmid, typefilter: 'qmclone' },
        signal,
      );
      for (const row of rows) {
        const task = parseUpid(row.upid);
        if (
          task?.type !== 'qmclone' ||
          task.id !== String(template.vmid) ||
          task.user !== clusterIdentity(this.#cluster.definition).id
        )
          continue;
        const isRunning = row.endtime === undefined && (row.status === undefined || row.status === 'RUNNING');
        const made = await this.#vmidOf(row.upid, signal);
        if (made === undefined && isRunning)
          return { why: 'a clone of this template runs whose log does not name its VMID yet' };
        if (made !== vmid) continue;
        if (isRunning) running = row.upid;
        else ended.push({ id: row.upid, isOk: isSuccess(row.status), startedAtS: task.startedAtS });
      }
      return { running, ended: ended.sort((a, b) => b.startedAtS - a.startedAtS) };
    } catch (error) {
      if (signal.aborted || !(error instanceof HatcheryError) || error.retry !== 'later') throw error;
      return { why: error.message, cause: error };
    }
  }

  async #vmidOf(id: string, signal: AbortSignal): Promise<number | undefined> {
    const known = this.#madeBy.get(id);
    if (known !== undefined) return known;
    const { lines } = await this.#tasks.log(id, 0, signal);
    const match = lines.map((line) => / with ID (\d+)$/.exec(line.trim())).find(Boolean);
    if (!match) return undefined;
    const made = Number(match[1]);
    this.#noteMade(id, made);
    return made;
  }

  #noteMade(id: string, vmid: number): void {
    this.#madeBy.set(id, vmid);
    const oldest = this.#madeBy.keys().next().value;
    if (this.#madeBy.size > 5_000 && oldest !== undefined) this.#madeBy.delete(oldest);
  }
}

function isSuccess(status: string | undefined): boolean {
  return status === 'OK' || /^WARNINGS: \d+$/.test(status ?? '');
}
