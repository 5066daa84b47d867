import type { SimulatorContext } from '../context.js';
import type { World, WorldGuest, WorldHaMove, WorldHaResource } from '../world.js';
import { macOf } from './guest-config.js';
import { affinityOf } from './ha-affinity.js';
import { startContainer, stopContainer } from './lxc-power.js';
import type { Pve } from './pve.js';
import type { Task } from './task-engine.js';
import { powerTask, type PowerUser } from './power.js';
import { migrateTask } from './qemu-migrate.js';
import { PveError } from './wire.js';

const ROUND_MS = 10_000;
const STARTS_AT_ONCE = 4;
/** From the moment that a node is gone until its guests may start elsewhere: its lock must expire and it must be fenced. */
const FENCE_MS = { median: 140_000, p95: 170_000 };
/** What a guest is given to shut down before it is stopped hard. */
const RELOCATE_S = 60;

interface Service {
  task: Task | undefined;
  failures: number;
  isInError: boolean;
  /** Where its node went away, the moment from which it is recovered. */
  recoverAtMs: number | undefined;
  /** Where it is to go next. */
  asked: WorldHaMove | undefined;
  /** What `task` does so that it gets there. */
  move: (WorldHaMove & { readonly step: 'shutdown' | 'migrate' }) | undefined;
}

/**
 * The HA manager: in rounds of 10 s it brings every managed guest to the state that was asked for, at most four at once on a node,
 * and moves the guests of a dead node. Without quorum it does nothing.
 */
export class Ha {
  readonly #services = new Map<string, Service>();

  constructor(private readonly world: World) {}

  /** From now on there are rounds. */
  attend(pve: Pve): void {
    pve.context.clock.every(ROUND_MS, () => this.#round(pve));
  }

  isManaged(vmid: number): boolean {
    const resource = this.#resourceOf(vmid);
    return resource !== undefined && resource.state !== 'ignored';
  }

  /** What `hastate` shows; `undefined` = not managed. */
  stateOf(vmid: number): string | undefined {
    const { guests, conditions } = this.world;
    const guest = guests.get(vmid);
    const resource = this.#resourceOf(vmid);
    if (!guest || !resource) return undefined;
    if (resource.state === 'ignored') return 'ignored';
    if (this.#services.get(sidOf(guest))?.isInError) return 'error';
    if (conditions.nodesOff.has(guest.node)) return 'fence';
    const { move } = this.#services.get(sidOf(guest)) ?? {};
    if (move) return move.how;
    if (resource.state === 'started') return 'started';
    return guest.status === 'running' ? 'request_stop' : 'stopped';
  }

  /** As `ha-manager set <sid> --state`: the next round does it. */
  requestState(vmid: number, state: 'started' | 'stopped'): void {
    const resource = this.#resourceOf(vmid);
    if (resource) resource.state = state;
  }

  /** As a line of `crm_commands`: the next round reads it. */
  requestMove(move: WorldHaMove): void {
    this.world.ha.moves.push(move);
  }

  /** Nobody manages it any more. */
  forget(sid: string): void {
    this.world.ha.resources.delete(sid);
    this.#services.delete(sid);
  }

  /** It was disabled: what went wrong before is forgotten. */
  clearError(sid: string): void {
    this.#services.delete(sid);
  }

  isInError(sid: string): boolean {
    return this.#services.get(sid)?.isInError ?? false;
  }

  #resourceOf(vmid: number): WorldHaResource | undefined {
    const { guests, ha } = this.world;
    const guest = guests.get(vmid);
    return guest && ha.resources.get(sidOf(guest));
  }

  #round(pve: Pve): void {
    const { world } = this;
    if (world.conditions.quorumLost) return;
    for (const move of world.ha.moves.splice(0)) this.#accept(move);
    for (const guest of world.guests.values()) {
      const resource = world.ha.resources.get(sidOf(guest));
      if (!resource || resource.state === 'ignored') continue;
      const service = this.#serviceOf(guest);
      if (world.conditions.nodesOff.has(guest.node)) this.#recover(pve, guest, service);
      else this.#settle(pve, guest, resource, service);
    }
  }

  /** What cannot be done is forgotten, and the last that was asked for is what counts. Whatever must be where it is goes with it. */
  #accept(move: WorldHaMove): void {
    const { companions, blockersOn } = affinityOf(this.world, move.sid);
    if (!this.#isOnline(move.node) || blockersOn(move.node).length > 0) return;
    for (const sid of [move.sid, ...companions]) {
      const guest = this.world.guests.get(Number(sid.slice(3)));
      if (guest && this.isManaged(guest.vmid)) this.#serviceOf(guest).asked = { ...move, sid };
    }
  }

  #isOnline(node: string): boolean {
    return this.world.nodes.some(({ name }) => name === node) && !this.world.conditions.nodesOff.has(node);
  }

  #serviceOf(guest: WorldGuest): Service {
    const sid = sidOf(guest);
    const known = this.#services.get(sid);
    if (known) return known;
    const service: Service = {
      task: undefined,
      failures: 0,
      isInError: false,
      recoverAtMs: undefined,
      asked: undefined,
      move: undefined,
    };
    this.#services.set(sid, service);
    return service;
  }

  /** Moves, starts or stops it; what fails to start or stop more often than allowed is left alone until somebody disables it. */
  #settle(pve: Pve, guest: WorldGuest, resource: WorldHaResource, service: Service): void {
    service.recoverAtMs = undefined;
    const { task } = service;
    if (task && task.exitStatus === undefined) return;
    if (task && !service.move) {
      service.failures = /^(OK|WARNINGS: \d+)$/.test(task.exitStatus ?? '') ? 0 : service.failures + 1;
      service.isInError = service.failures > resource.maxRestart;
    }
    service.task = undefined;
    if (!service.isInError && this.#goOn(pve, guest, service)) return;
    const wanted = resource.state === 'started' ? 'running' : 'stopped';
    if (guest.status === wanted || service.isInError) return;
    if (wanted === 'running' && this.#startsOn(guest.node) >= STARTS_AT_ONCE) return;
    const how = wanted === 'running' ? 'start' : 'stop';
    const by = asRoot(pve, guest, `${guest.kind}.${how}`);
    if (guest.kind === 'qemu') service.task = powerTask(by, how);
    else service.task = how === 'start' ? startContainer(by) : stopContainer(by, how);
  }

  /**
   * One step of a move; false = there is none left. A move that fails is not tried again: the guest goes on where it is. Relocating
   * means that the guest is shut down here, moved, and started again as what it ought to be.
   */
  #goOn(pve: Pve, guest: WorldGuest, service: Service): boolean {
    const isDown = service.move?.step === 'shutdown';
    const next = isDown ? service.move : service.asked;
    service.move = undefined;
    if (!isDown) service.asked = undefined;
    if (!next || guest.kind === 'lxc' || guest.node === next.node || !this.#isOnline(next.node)) return false;
    if (next.how === 'relocate' && guest.status === 'running' && !isDown) {
      service.move = { ...next, step: 'shutdown' };
      const options = { timeoutS: RELOCATE_S, isForced: true };
      service.task = powerTask(asRoot(pve, guest, 'qemu.shutdown'), 'shutdown', options);
      return true;
    }
    try {
      service.task = migrateTask(asRoot(pve, guest, 'qemu.migrate'), {
        target: next.node,
        isOnline: next.how === 'migrate',
        withLocalDisks: false,
        storageFor: (storage) => storage,
      });
      service.move = { ...next, step: 'migrate' };
      return true;
    } catch (error) {
      if (!(error instanceof PveError)) throw error;
      return false;
    }
  }

  #startsOn(node: string): number {
    const starts = [...this.#services.values()].flatMap(({ task }) => task ?? []);
    return starts.filter((task) => task.node === node && task.exitStatus === undefined).length;
  }

  /** Its node is gone: once that is fenced, the config moves to the node with the fewest guests of those that may have it. */
  #recover(pve: Pve, guest: WorldGuest, service: Service): void {
    const { context, world } = pve;
    service.asked = undefined;
    service.move = undefined;
    const nowMs = context.clock.elapsedMs();
    service.recoverAtMs ??=
      nowMs + context.random.stream('fence', guest.node).logNormal(FENCE_MS.median, FENCE_MS.p95);
    if (nowMs < service.recoverAtMs) return;
    const count = (node: string): number =>
      [...world.guests.values()].filter((other) => other.node === node).length;
    const [target] = this.#mayRun(guest).sort((a, b) => count(a) - count(b));
    if (target === undefined) return;
    guest.node = target;
    guest.status = 'stopped';
    guest.address = undefined;
    service.recoverAtMs = undefined;
    recordMove(context, guest);
  }

  /** Online nodes; a strict node-affinity rule (9) or a restricted group (8) leaves only its own. */
  #mayRun(guest: WorldGuest): string[] {
    const { nodes, conditions, ha } = this.world;
    const online = nodes.map(({ name }) => name).filter((name) => !conditions.nodesOff.has(name));
    const sid = sidOf(guest);
    const group = ha.groups.get(ha.resources.get(sid)?.group ?? '');
    const rule = [...ha.rules.values()].find(
      (one) =>
        one['type'] === 'node-affinity' &&
        one['disable'] !== '1' &&
        splitNames(one['resources']).includes(sid),
    );
    const binding = group ?? rule;
    if (!binding) return online;
    const preferred = online.filter((name) => splitNames(binding['nodes']).includes(name));
    const isStrict = binding['strict'] === '1' || binding['restricted'] === '1';
    return preferred.length > 0 || isStrict ? preferred : online;
  }
}

/** `pve1:100,pve2` -> `pve1`, `pve2`; `vm:105,ct:106` stays. */
function splitNames(list = ''): string[] {
  return list.split(/[,; ]+/).map((one) => one.replace(/^(?!(?:vm|ct):)([^:]+):[0-9]+$/, '$1'));
}

export function sidOf({ kind, vmid }: Pick<WorldGuest, 'kind' | 'vmid'>): string {
  return `${kind === 'qemu' ? 'vm' : 'ct'}:${vmid}`;
}

function asRoot(pve: Pve, { vmid, node }: WorldGuest, op: string): PowerUser {
  const faults = pve.context.faults.match({ sim: 'proxmox', op, node, vmid });
  return { pve, node, vmid, op, faults, account: { id: 'root@pam' } };
}

function recordMove({ journal, world }: SimulatorContext, guest: WorldGuest): void {
  journal.record({
    sim: 'proxmox',
    event: 'foreign',
    actor: 'foreign:ha-manager',
    op: 'foreign.migrate',
    cluster: world.cluster,
    node: guest.node,
    vmid: guest.vmid,
    incarnation: guest.incarnation,
    effect: true,
    params: { target: guest.node, mac: macOf(guest) },
  });
}
