import { clusterIdentity } from '../../core/definitions.js';
import type { Call } from '../../ports/call.js';
import type { CreateRequest, GuestRef, TaskRef, Trace } from '../../ports/hypervisor.js';
import { writeAs, type Cluster } from './cluster.js';
import { networkOf } from './container-config.js';
import type { GuestReads } from './guests.js';
import { isRunning, isSuccess, type Making, type Makings, type MakingTasks } from './makings.js';
import type { Tasks } from './tasks.js';
import { parseUpid } from './upid.js';
import { upid } from './wire.js';

const CREATE_TASK = 'vzcreate';

/** Makes containers from archives under fixed VMIDs and finds out what became of one whose answer was lost. */
export class Creates {
  readonly #cluster: Cluster;
  readonly #guests: GuestReads;
  readonly #tasks: Tasks;
  readonly #makings: Makings;

  constructor(parts: { cluster: Cluster; guests: GuestReads; tasks: Tasks; makings: Makings }) {
    this.#cluster = parts.cluster;
    this.#guests = parts.guests;
    this.#tasks = parts.tasks;
    this.#makings = parts.makings;
  }

  start(request: CreateRequest, call: Call): Promise<TaskRef> {
    return this.#makings.start(this.#makingOf(request), () => this.#send(request, call), call);
  }

  trace(request: CreateRequest, guest: GuestRef, sinceMs: number, call: Call): Promise<Trace<TaskRef>> {
    return this.#makings.trace(this.#makingOf(request), guest, sinceMs, call);
  }

  #makingOf(request: CreateRequest): Making {
    const { vmid, node, description } = request;
    const what = `create container ${vmid}`;
    const tasks: Making['tasks'] = (sinceS, signal) => this.#createTasks(request, sinceS, signal);
    return { what, noun: 'create', vmid, node, description, tasks };
  }

  async #send(request: CreateRequest, call: Call): Promise<TaskRef> {
    const { archive, vmid, name, node, storage, diskGiB, description, settings, password, sshKeys } = request;
    const id = await writeAs(
      this.#cluster,
      upid,
      {
        op: 'create',
        what: `create container ${vmid} from ${archive}`,
        method: 'POST',
        node,
        path: `/nodes/${node}/lxc`,
        params: {
          vmid,
          ostemplate: archive,
          hostname: name,
          description,
          pool: this.#cluster.definition.pool,
          rootfs: `${storage}:${diskGiB}`,
          cores: settings.cores,
          memory: settings.memoryMiB,
          swap: settings.swapMiB,
          net0: networkOf(undefined, settings),
          // Said always: what is left out differs between versions.
          unprivileged: true,
          ...(settings.nesting && { features: 'nesting=1' }),
          ...(password !== undefined && { password: password.reveal() }),
          ...(sshKeys.length > 0 && { 'ssh-public-keys': sshKeys.map((key) => key.trim()).join('\n') }),
        },
      },
      call,
    );
    this.#guests.expectAt(vmid, { node, kind: 'lxc' });
    return { id };
  }

  /** The task is named after what it makes. */
  async #createTasks(
    { node, vmid }: CreateRequest,
    since: number,
    signal: AbortSignal,
  ): Promise<MakingTasks> {
    const rows = await this.#tasks.list(node, { since, vmid, typefilter: CREATE_TASK }, signal);
    const ours = rows.filter(({ upid: id }) => {
      const task = parseUpid(id);
      return (
        task?.type === CREATE_TASK &&
        task.id === String(vmid) &&
        task.user === clusterIdentity(this.#cluster.definition).id
      );
    });
    const ended = ours.filter((row) => !isRunning(row));
    return {
      running: ours.find(isRunning)?.upid,
      ended: ended.map((row) => ({ id: row.upid, isOk: isSuccess(row) })),
    };
  }
}
