import { clusterIdentity } from '../../core/definitions.js';
import type { Call } from '../../ports/call.js';
import type { CloneRequest, GuestRef, TaskRef, Trace } from '../../ports/hypervisor.js';
import { writeAs, type Cluster } from './cluster.js';
import { reasonOf } from './errors.js';
import { guestPath, KINDS } from './guest-kind.js';
import type { GuestReads } from './guests.js';
import { isRunning, isSuccess, type Making, type Makings, type MakingTasks } from './makings.js';
import type { Tasks } from './tasks.js';
import type { Templates } from './templates.js';
import { parseUpid } from './upid.js';
import { upid, type TaskRow } from './wire.js';

/** Clones a template into a fixed VMID and finds out what became of a clone whose answer was lost. */
export class Clones {
  readonly #cluster: Cluster;
  readonly #guests: GuestReads;
  readonly #tasks: Tasks;
  readonly #templates: Templates;
  readonly #makings: Makings;
  /** VMID that a clone task makes, as its answer or its log told; that does not change. */
  readonly #madeBy = new Map<string, number>();

  constructor(parts: {
    cluster: Cluster;
    guests: GuestReads;
    tasks: Tasks;
    templates: Templates;
    makings: Makings;
  }) {
    this.#cluster = parts.cluster;
    this.#guests = parts.guests;
    this.#tasks = parts.tasks;
    this.#templates = parts.templates;
    this.#makings = parts.makings;
  }

  /** See `Makings.start`. Errors besides: `template-changed`. */
  async start(request: CloneRequest, call: Call): Promise<TaskRef> {
    await this.#templates.verifyPinned(request.kind, request.template, call.signal);
    return this.#makings.start(this.#makingOf(request), () => this.#send(request, call), call);
  }

  trace(request: CloneRequest, guest: GuestRef, sinceMs: number, call: Call): Promise<Trace<TaskRef>> {
    return this.#makings.trace(this.#makingOf(request), guest, sinceMs, call);
  }

  #makingOf(request: CloneRequest): Making {
    const { vmid, node, description } = request;
    const what = `clone into VMID ${vmid}`;
    const tasks: Making['tasks'] = (sinceS, signal) => this.#cloneTasks(request, sinceS, signal);
    return { what, noun: 'clone', vmid, node, description, tasks };
  }

  async #send(request: CloneRequest, call: Call): Promise<TaskRef> {
    const { kind, template, vmid, name, node, mode, storage, description } = request;
    const isFull = mode === 'full';
    const sent = writeAs(
      this.#cluster,
      upid,
      {
        op: 'clone',
        what: `clone template ${template.vmid} into VMID ${vmid}`,
        method: 'POST',
        node: template.node,
        path: `${guestPath(template.node, kind, template.vmid)}/clone`,
        params: {
          newid: vmid,
          [kind === 'qemu' ? 'name' : 'hostname']: name,
          full: isFull,
          pool: this.#cluster.definition.pool,
          description,
          ...(node !== template.node && { target: node }),
          ...(isFull && storage !== undefined && { storage }),
        },
      },
      call,
    );
    const id = await sent.catch(async (error: unknown) => {
      // The lock or the missing config of the refusal is the template's: it may have changed since the look before.
      if (['locked', 'config-missing'].includes(reasonOf(error) ?? ''))
        await this.#templates.verifyNow(kind, template, call.signal);
      throw error;
    });
    this.#noteMade(id, vmid);
    this.#guests.expectAt(vmid, { node, kind });
    if (!isFull) this.#tasks.noteLinkedClone(id, template.storageShared && kind === 'qemu');
    return { id };
  }

  /**
   * Our clone tasks of this template that made the VMID, newest first. Of a virtual machine the log names it, which proves no success: a loser
   * prints it too. Of a container no log does, and the template makes one at a time.
   */
  async #cloneTasks(request: CloneRequest, since: number, signal: AbortSignal): Promise<MakingTasks> {
    const { kind, template, vmid } = request;
    const typefilter = KINDS[kind].cloneTask;
    const rows = await this.#tasks.list(template.node, { since, vmid: template.vmid, typefilter }, signal);
    const ours = rows.filter(({ upid: id }) => {
      const task = parseUpid(id);
      return (
        task?.type === typefilter &&
        task.id === String(template.vmid) &&
        task.user === clusterIdentity(this.#cluster.definition).id
      );
    });
    if (kind === 'lxc') {
      const runs = ours.find((row) => isRunning(row) && (this.#madeBy.get(row.upid) ?? vmid) === vmid);
      return { running: undefined, maybeRunning: runs?.upid, ended: [] };
    }
    let running: string | undefined;
    const ended: { id: string; isOk: boolean; startedAtS: number }[] = [];
    for (const row of ours) {
      const made = await this.#vmidOf(row, signal);
      if (made === undefined && isRunning(row))
        return { why: 'a clone of this template runs whose log does not name its VMID yet' };
      if (made !== vmid) continue;
      if (isRunning(row)) running = row.upid;
      else
        ended.push({
          id: row.upid,
          isOk: isSuccess(row),
          startedAtS: parseUpid(row.upid)?.startedAtS ?? 0,
        });
    }
    return { running, ended: ended.sort((a, b) => b.startedAtS - a.startedAtS) };
  }

  async #vmidOf({ upid: id }: TaskRow, signal: AbortSignal): Promise<number | undefined> {
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
