import { isDeployment } from './actors.js';
import { markOf } from './mark.js';
import type { NumberedLine } from './read-lines.js';
import type { Counts, Finding, Rule } from './verdict.js';

export interface LedgerGuest {
  readonly cluster: string;
  readonly vmid: number;
  readonly incarnation: string;
  /** Who created it; `undefined` = it was there before the journal. */
  readonly creator: string | undefined;
  /** The deployment that the mark named when the guest was made. */
  readonly deployment: string | undefined;
  mark: string | undefined;
  mac: string | undefined;
  name: string | undefined;
  address: string | undefined;
  isRunning: boolean;
  /** DHCP knew its MAC when it started. */
  wasAllowed: boolean;
  /** An admin put it into a pool of ours. */
  isHandedOver: boolean;
}

const CREATED = new Set(['qemu.clone', 'lxc.clone', 'qemu.create', 'lxc.create', 'foreign.create']);
const DESTROYED = new Set(['qemu.destroy', 'lxc.destroy', 'foreign.delete']);

/** The guests of all clusters as the journal makes them appear and go, and what must never happen to them. */
export class GuestLedger {
  readonly #live = new Map<string, LedgerGuest>();
  readonly #left = new Map<string, string>();

  constructor(
    private readonly findings: Finding[],
    private readonly counts: Counts,
  ) {}

  /** Guests that are there now and were made by a deployment. */
  ours(): LedgerGuest[] {
    return [...this.#live.values()].filter((guest) => isDeployment(guest.creator));
  }

  /** Volumes that a failed task of ours left behind. */
  orphanedVolumes(): string[] {
    return [...this.#left.keys()];
  }

  /** The first line: everything in it is somebody else's. */
  begin(line: NumberedLine): void {
    const { cluster, guests } = (line.params ?? {}) as {
      cluster?: string;
      guests?: readonly { vmid: number; incarnation: string }[];
    };
    for (const { vmid, incarnation } of guests ?? [])
      this.#add({
        ...emptyGuest(cluster ?? '', vmid, incarnation),
        creator: undefined,
        deployment: undefined,
      });
  }

  apply(line: NumberedLine): void {
    const { op = '', params = {} } = line;
    this.#checkUnreferencedDisks(line);
    this.#checkVolumes(line);
    if (line.effect !== true || line.event === 'task-start') return;
    if (op === 'pools.put') return this.#changePool(line);
    if (line.vmid === undefined) return;
    if (CREATED.has(op)) return this.#create(line, line.vmid);

    const guest = this.#find(line, line.vmid);
    if (guest === undefined) return;
    this.#checkWrite(line, guest);
    if (DESTROYED.has(op)) {
      this.#live.delete(key(guest));
      if (isDeployment(line.actor)) this.counts.guestsDestroyed += 1;
    } else if (op.endsWith('.start') || params['allowed'] !== undefined) {
      guest.isRunning = true;
      guest.wasAllowed = params['allowed'] === true;
      if (isDeployment(line.actor)) this.counts.guestsStarted += 1;
      this.#hold(line, guest, { address: text(params['address']) });
    } else if (op.endsWith('.stop') || op.endsWith('.shutdown') || params['state'] === 'disk') {
      guest.isRunning = false;
      guest.address = undefined;
    } else if (op.includes('.config.') || op.endsWith('.rollback') || op === 'foreign.edit') {
      if (line.event === 'foreign') editedBy(guest, params);
      else {
        guest.mark = text(params['mark']);
        this.#hold(line, guest, { mac: text(params['mac'])?.toLowerCase(), name: text(params['name']) });
      }
    }
  }

  #create(line: NumberedLine, vmid: number): void {
    const { params = {}, cluster = '', incarnation = `line ${line.line}` } = line;
    const mark = text(params['mark']);
    const guest = {
      ...emptyGuest(cluster, vmid, incarnation),
      creator: line.actor,
      deployment: markOf(mark)?.deployment,
      mark,
    };
    const there = this.#live.get(key(guest));
    if (there !== undefined && there.incarnation !== incarnation)
      this.#report(
        'vmid-collision',
        line,
        `${line.actor ?? 'somebody'} made a guest with VMID ${vmid} while another one with it was there`,
      );
    this.#add(guest);
    if (isDeployment(line.actor)) this.counts.guestsCreated += 1;
    this.#hold(line, guest, { mac: text(params['mac'])?.toLowerCase(), name: text(params['name']) });
  }

  /** Takes over names and addresses and says so when another live guest has them. Names are unique per deployment, the others for all. */
  #hold(
    line: NumberedLine,
    guest: LedgerGuest,
    taken: { mac?: string | undefined; name?: string | undefined; address?: string | undefined },
  ): void {
    Object.assign(guest, taken);
    for (const other of this.#live.values()) {
      if (other === guest || (!isDeployment(guest.creator) && !isDeployment(other.creator))) continue;
      const both = `VMID ${guest.vmid} and VMID ${other.vmid}`;
      if (taken.mac !== undefined && other.mac === taken.mac)
        this.#report('mac-collision', line, `${both} have the MAC ${taken.mac}`);
      if (taken.name !== undefined && other.name === taken.name && other.creator === guest.creator)
        this.#report('name-collision', line, `${both} have the name ${taken.name}`);
      if (taken.address !== undefined && other.isRunning && other.address === taken.address)
        this.#report('address-collision', line, `${both} run with the address ${taken.address}`);
    }
  }

  #checkWrite(line: NumberedLine, guest: LedgerGuest): void {
    if (!isDeployment(line.actor)) return;
    const why = whyForeign(guest, line.actor);
    if (why !== undefined)
      this.#report('foreign-write', line, `${line.actor} did ${line.op} on VMID ${guest.vmid}, ${why}`);
  }

  #changePool(line: NumberedLine): void {
    const { pool, added, removed } = (line.params ?? {}) as {
      pool?: string;
      added?: unknown;
      removed?: unknown;
    };
    for (const vmid of [...numbers(added), ...numbers(removed)]) {
      const guest = this.#find({ ...line, incarnation: undefined }, vmid);
      if (guest === undefined) continue;
      if (isDeployment(line.actor)) this.#checkWrite({ ...line, op: `pools.put ${pool ?? ''}` }, guest);
      else guest.isHandedOver = numbers(added).includes(vmid);
    }
  }

  #checkUnreferencedDisks(line: NumberedLine): void {
    if (line.event !== 'request' || !DESTROYED.has(line.op ?? '') || !isDeployment(line.actor)) return;
    if (['1', 1, true].includes(line.params?.['destroy-unreferenced-disks'] as string | number | boolean))
      this.#report(
        'unreferenced-disks',
        line,
        `${line.actor} destroyed VMID ${line.vmid ?? '?'} with destroy-unreferenced-disks`,
      );
  }

  #checkVolumes(line: NumberedLine): void {
    if (line.event !== 'task-end' || !isDeployment(line.actor)) return;
    for (const volume of texts(line.params?.['left'])) this.#left.set(volume, volume);
    for (const volume of texts(line.params?.['freed'])) {
      this.#left.delete(volume);
      const owner = /(?:^|[:/])(?:vm|base|subvol)-(\d+)-/.exec(volume)?.[1];
      if (owner !== undefined && Number(owner) !== line.vmid)
        this.#report(
          'foreign-write',
          line,
          `${line.actor} freed ${volume} while it destroyed VMID ${line.vmid ?? '?'}`,
        );
    }
  }

  #find(line: Pick<NumberedLine, 'cluster' | 'incarnation'>, vmid: number): LedgerGuest | undefined {
    const guest = this.#live.get(key({ cluster: line.cluster ?? '', vmid }));
    return guest === undefined || line.incarnation === undefined || line.incarnation === guest.incarnation
      ? guest
      : undefined;
  }

  #add(guest: LedgerGuest): void {
    this.#live.set(key(guest), guest);
  }

  #report(rule: Rule, { line }: NumberedLine, detail: string): void {
    this.findings.push({ rule, detail, line });
  }
}

/** Why this actor may not write to it; `undefined` = it may. */
function whyForeign(guest: LedgerGuest, actor: string): string | undefined {
  if (guest.isHandedOver) return undefined;
  if (guest.creator === undefined) return 'which was there before';
  if (guest.creator !== actor) return `which ${guest.creator} made`;
  const mark = markOf(guest.mark);
  if (mark !== undefined && mark.vmid !== guest.vmid) return `whose mark names VMID ${mark.vmid}`;
  if (mark !== undefined && mark.deployment !== guest.deployment)
    return `whose mark names deployment ${mark.deployment}`;
  return undefined;
}

function editedBy(guest: LedgerGuest, params: Readonly<Record<string, unknown>>): void {
  if (typeof params['description'] === 'string')
    guest.mark = params['description'].trimEnd().split('\n').at(-1);
  const name = params['name'] ?? params['hostname'];
  if (typeof name === 'string') guest.name = name;
  const mac =
    typeof params['net0'] === 'string'
      ? /[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}/.exec(params['net0'])?.[0]
      : undefined;
  if (mac !== undefined) guest.mac = mac.toLowerCase();
}

function emptyGuest(
  cluster: string,
  vmid: number,
  incarnation: string,
): Omit<LedgerGuest, 'creator' | 'deployment'> {
  return {
    cluster,
    vmid,
    incarnation,
    mark: undefined,
    mac: undefined,
    name: undefined,
    address: undefined,
    isRunning: false,
    wasAllowed: false,
    isHandedOver: false,
  };
}

const key = ({ cluster, vmid }: Pick<LedgerGuest, 'cluster' | 'vmid'>): string => `${cluster}/${vmid}`;
const text = (value: unknown): string | undefined =>
  typeof value === 'string' && value !== '' ? value : undefined;
const texts = (value: unknown): string[] =>
  Array.isArray(value) ? value.filter((one) => typeof one === 'string') : [];
const numbers = (value: unknown): number[] => (Array.isArray(value) ? value.map(Number) : []);
