import type { Act, ActTarget } from '../acts.js';
import { grant, revoke } from '../build-access.js';
import { SimProcess } from '../process.js';
import { volumeKey, type WorldGuest } from '../world.js';
import { lockFile } from './guest-task.js';
import { disksOf, macOf } from './guest-config.js';
import type { ForeignActors } from './foreign.js';
import type { Conditions } from './conditions.js';
import type { Pve } from './pve.js';

const SOMEBODY = 'foreign:lock-holder';

/** The undoing of an act that lasts `forMs`. */
function endOf(act: Act): Act | undefined {
  switch (act.do) {
    case 'lose-quorum':
      return { do: 'regain-quorum' };
    case 'power-off':
      return { do: 'power-on', node: act.node };
    case 'fill-storage':
      return { do: 'empty-storage', storage: act.storage, node: act.node };
    case 'lock-guest':
      return { do: 'unlock-guest', vmid: act.vmid };
    default:
      return undefined;
  }
}

/** Does what fault rules say to the cluster. What the world does not allow (an id that is taken, a guest that is gone) does not happen, and the journal says why. */
export class FaultActs {
  constructor(
    private readonly pve: Pve & { readonly conditions: Conditions },
    private readonly foreign: ForeignActors,
  ) {}

  async perform(rule: Act, target: ActTarget = { op: '' }): Promise<void> {
    const { conditions } = this.pve;
    const { inMs, ...act } = filledIn(rule, target);
    if (inMs !== undefined) {
      conditions.later(inMs, act);
      return;
    }
    try {
      await this.#do(act, target);
    } catch (error) {
      conditions.note(act.do, {
        effect: false,
        error: error instanceof Error ? error.message : String(error),
      });
      return;
    }
    const end = endOf(act);
    if (end && 'forMs' in act && act.forMs !== undefined) conditions.later(act.forMs, end);
  }

  async #do(act: Act, { upid }: ActTarget): Promise<void> {
    const { conditions } = this.pve;
    switch (act.do) {
      case 'lose-quorum':
        return conditions.loseQuorum();
      case 'regain-quorum':
        return conditions.regainQuorum();
      case 'power-off':
        return conditions.powerOff(given(act.node, 'node'));
      case 'power-on':
        return conditions.powerOn(given(act.node, 'node'));
      case 'fill-storage':
        return conditions.fillStorage(act.storage, act.freeGiB, act.node);
      case 'empty-storage':
        return conditions.emptyStorage(act.storage, act.node);
      case 'expire-tickets':
        return conditions.expireTickets();
      case 'change-host-key':
        return conditions.changeHostKey(given(act.node, 'node'));
      case 'drop-id-range':
        return conditions.dropIdRange(given(act.node, 'node'), act.start);
      case 'remove-file':
        return conditions.removeFile(given(act.node, 'node'), act.path);
      case 'forget-tasks':
        return conditions.forgetTasks(given(act.node, 'node'));
      case 'kill-task':
        return conditions.killTask(given(upid, 'task'));
      case 'hide-config':
        return conditions.hideConfig(given(act.vmid, 'vmid'), act.forMs);
      case 'hide-volume':
        return conditions.hideVolumes(given(act.vmid, 'vmid'), act.forMs);
      case 'agent':
        return conditions.setAgent(given(act.vmid, 'vmid'), act);
      case 'first-boot':
        return conditions.setFirstBoot(given(act.vmid, 'vmid'), act.ends, act.why);
      case 'revoke':
      case 'grant':
        return this.#changeRights(act);
      case 'hold-file-lock':
      case 'hold-cluster-lock':
        return this.#holdLock(act);
      // The task itself looks for it.
      case 'warn':
      // Of other simulators.
      case 'add-filter':
      case 'remove-filter':
      case 'take-shells':
      case 'close-shells':
      case 'roll-back':
        return undefined;
      default:
        return this.#onGuest(act);
    }
  }

  #onGuest(
    act: Extract<
      Act,
      {
        do:
          | `foreign-${string}`
          | 'lock-guest'
          | 'unlock-guest'
          | 'leave-volume'
          | 'drop-drive'
          | 'same-mac'
          | 'same-lease';
      }
    >,
  ): void {
    const { foreign } = this;
    const vmid = given(act.vmid, 'vmid');
    switch (act.do) {
      case 'foreign-create':
        foreign.create({ ...act, vmid, node: given(act.node, 'node') });
        return;
      case 'foreign-edit':
        return foreign.edit(vmid, act.set, act.owner);
      case 'foreign-delete':
        return foreign.remove(vmid, act.owner);
      case 'foreign-start':
      case 'foreign-stop':
        return foreign.setRunning(vmid, act.do === 'foreign-start', act.owner);
      case 'foreign-migrate':
        return foreign.migrate(vmid, act.node, act.owner);
      case 'lock-guest':
        return foreign.edit(vmid, { lock: act.lock }, 'job');
      case 'unlock-guest':
        return foreign.edit(vmid, { lock: null }, 'job');
      case 'leave-volume':
        return this.#leaveVolume(vmid, act.storage, act.name, given(act.node, 'node'));
      case 'drop-drive':
        return this.#dropDrive(this.#guest(vmid), act.key);
      case 'same-mac':
        return this.#sameMac(this.#guest(vmid), this.#guest(act.as));
      case 'same-lease':
        return this.#sameLease(this.#guest(vmid), act.as);
    }
  }

  #changeRights(act: Extract<Act, { do: 'revoke' | 'grant' }>): void {
    const { world, conditions } = this.pve;
    const { token = world.tokenId, path, privileges } = act;
    if (act.do === 'grant') grant(world, token, path, privileges);
    else revoke(world, token, path, privileges);
    conditions.note(act.do, { ugid: token, path, privileges });
  }

  /** Somebody takes it as soon as it is free, and keeps it. */
  #holdLock(act: Extract<Act, { do: 'hold-file-lock' | 'hold-cluster-lock' }>): void {
    const { files, locks, context, conditions, world } = this.pve;
    const kind = act.do === 'hold-file-lock' ? world.guests.get(act.vmid ?? 0)?.kind : undefined;
    const wait = (signal?: AbortSignal): Promise<void> => context.clock.sleep(act.forMs, signal);
    const held = new SimProcess().run(() =>
      act.do === 'hold-cluster-lock'
        ? locks.with({ actor: SOMEBODY, node: world.nodes[0]!.name }, act.lock, wait)
        : files.with(
            { actor: SOMEBODY, node: given(act.node, 'node') },
            lockFile(given(act.vmid, 'vmid'), kind),
            'exclusive',
            60_000,
            () => wait(),
          ),
    );
    held.catch((error: unknown) => conditions.note(act.do, { effect: false, error: String(error) }));
    conditions.note(act.do, act.do === 'hold-cluster-lock' ? { lock: act.lock } : { vmid: act.vmid });
  }

  /** A volume that no config knows any more. */
  #leaveVolume(vmid: number, id: string, name: string, node: string): void {
    const { world, conditions } = this.pve;
    const storage = world.storages.find((one) => one.id === id);
    if (!storage) throw new Error(`there is no storage ${id}`);
    const volid = `${id}:${name}`;
    const at = storage.shared ? undefined : node;
    const sizes = { sizeGiB: 8, usedGiB: 2 };
    world.volumes.set(volumeKey(at, volid), {
      volid,
      storage: id,
      node: at,
      vmid,
      ...sizes,
      parent: undefined,
    });
    conditions.note('leave-volume', { vmid, volid });
  }

  #dropDrive(guest: WorldGuest, key: string): void {
    const { world, conditions } = this.pve;
    const drive = disksOf(guest.config).find((disk) => disk.key === key);
    if (!drive) throw new Error(`guest ${guest.vmid} has no drive ${key}`);
    delete guest.config[key];
    world.volumes.delete(drive.volid);
    world.volumes.delete(volumeKey(guest.node, drive.volid));
    conditions.note('drop-drive', { vmid: guest.vmid, key });
  }

  #sameMac(guest: WorldGuest, other: WorldGuest): void {
    const [own, mac] = [macOf(guest), macOf(other)];
    if (own === undefined || mac === undefined) throw new Error('both need a network card');
    guest.config['net0'] = guest.config['net0']!.replace(new RegExp(own, 'i'), mac.toUpperCase());
    this.pve.conditions.note('same-mac', { vmid: guest.vmid, mac });
  }

  /** The DHCP server knows both guests by one identity (a copied machine-id): the one gets the address of the other. */
  #sameLease(guest: WorldGuest, as: number | undefined): void {
    const { guests, dhcp } = this.pve.world;
    const other =
      as === undefined
        ? [...guests.values()].findLast((one) => one !== guest && one.address)
        : guests.get(as);
    const mac = macOf(guest);
    if (mac === undefined || other?.address === undefined) throw new Error('no other guest has an address');
    dhcp.leases.set(mac, other.address);
    this.pve.conditions.note('same-lease', { vmid: guest.vmid, as: other.vmid });
  }

  #guest(vmid: number): WorldGuest {
    const guest = this.pve.world.guests.get(vmid);
    if (!guest) throw new Error(`there is no guest ${vmid}`);
    return guest;
  }
}

/** The act with the operation's guest and node where its rule names none, and the names in its texts filled in. */
function filledIn(act: Act, { node, vmid, params }: ActTarget): Act {
  const own = vmid ?? (params?.['vmid'] === undefined ? undefined : Number(params['vmid']));
  const about = { ...(own !== undefined && { vmid: own }), ...(node !== undefined && { node }), ...act };
  const names = new Map<string, string | undefined>([
    ['vmid', about.vmid === undefined ? undefined : String(about.vmid)],
    ['node', about.node],
    ['name', typeof params?.['name'] === 'string' ? params['name'] : undefined],
  ]);
  const texts = (value: unknown): unknown => {
    if (typeof value === 'string')
      return value.replace(/\{([a-z]+)\}/g, (whole, key: string) => names.get(key) ?? whole);
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, texts(inner)]));
  };
  return texts(about) as Act;
}

function given<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`the rule names no ${what}, and neither does the operation`);
  return value;
}
