import { isDeployment } from './actors.js';
import { readExport, readSubmits, type Export, type Submit, type Work } from './expectations.js';
import { GuestLedger, type LedgerGuest } from './guest-ledger.js';
import { markOf } from './mark.js';
import { missingWork } from './minimum-work.js';
import { NodeFileLedger } from './node-files.js';
import { PoolLedger } from './pools.js';
import { readLines } from './read-lines.js';
import { isMake, isRead, Repeats } from './repeats.js';
import { Rests } from './rests.js';
import { ServiceLedger, type LedgerConnection } from './service-ledger.js';
import {
  noCounts,
  type Counts,
  type Finding,
  type JournalVerdict,
  type Missing,
  type Rule,
} from './verdict.js';
import type { JournalLine } from '../journal.js';

export interface CheckOptions {
  /** Export of the product: each ready machine must be whole, and nothing else may be left. Without it every running guest of ours that DHCP knows must be whole. */
  readonly exportFile?: string;
  /** Accepted submits: each machine of them must be there exactly once; with an export, its run must have ended. */
  readonly submitsFile?: string;
  /** Guests that the run must at least have made, so that a run that did nothing proves nothing. Default 1. */
  readonly minimumGuests?: number;
  /** What the run was meant to go through: when less of it came, the verdict is void. */
  readonly work?: Work;
  /** How long a freed VMID rests; default 7 days. */
  readonly restMs?: number;
  /** Everything was deleted: whatever is left is a finding. */
  readonly expectNothingLeft?: boolean;
  /** Parts that a ready machine has; default all. */
  readonly parts?: { readonly filter?: boolean; readonly desktop?: boolean };
}

/** Machines in these states hold nothing outside any more. */
const GONE = new Set(['deleted', 'failed']);
/** Runs that still have something to do. A parked one has come to rest with its reasons. */
const MOVING = new Set(['queued', 'running', 'undoing']);
const REST_MS = 7 * 24 * 3_600_000;

/**
 * Judges a run by the journal alone, and knows nothing of the product: no VMID, name, MAC or address held by two live guests, no write to what a
 * deployment did not make, no second request before somebody looked what became of the first, no VMID used again before it rested, everything that a
 * ready machine needs is there, nothing is left of what was deleted, every submit came to its end.
 */
export async function checkJournal(path: string, options: CheckOptions = {}): Promise<JournalVerdict> {
  const exported = options.exportFile === undefined ? undefined : await readExport(options.exportFile);
  const submits = options.submitsFile === undefined ? [] : await readSubmits(options.submitsFile);
  const findings: Finding[] = [];
  const counts = noCounts();
  const openTasks = new Set<string>();
  const firedFaults = new Set<string>();
  const deeds = new Map<string, number>();
  const guests = new GuestLedger(findings, counts);
  const services = new ServiceLedger(findings, counts);
  const pools = new PoolLedger();
  const nodeFiles = new NodeFileLedger();
  const repeats = new Repeats(findings);
  const rests = new Rests(findings, options.restMs ?? REST_MS);

  const { lines, unreadable, firstEvent } = await readLines(path, (line) => {
    count(line, counts);
    if (line.event === 'fault' && line.fault !== undefined) firedFaults.add(line.fault);
    if (isDeedOverApi(line)) {
      const account = line.actor!.split('!')[0]!;
      deeds.set(account, (deeds.get(account) ?? 0) + 1);
    }
    return isEvidence(line);
  });
  counts.unreadable = unreadable.length;
  for (const line of unreadable)
    findings.push({ rule: 'unreadable-line', line, detail: 'this is not a line of a journal' });
  if (firstEvent !== 'world')
    findings.push({
      rule: 'no-world',
      line: 1,
      detail: 'the first line does not tell the world, so nobody knows what is foreign',
    });

  for (const line of lines) {
    if (line.event === 'task-start' && line.upid !== undefined) openTasks.add(line.upid);
    if (line.event === 'task-end' && line.upid !== undefined) openTasks.delete(line.upid);
    if (line.event === 'world') guests.begin(line);
    else if (line.sim === 'proxmox')
      for (const ledger of [guests, pools, nodeFiles, repeats, rests]) ledger.apply(line);
    else services.apply(line);
  }
  counts.openTasks = openTasks.size;

  const state = { guests, services, pools, nodeFiles };
  const missing = findMissing(state, exported, options.parts ?? {});
  checkSubmits(state, submits, exported, findings);
  if (exported !== undefined) checkTwins(state, exported, findings);
  const leftItems = leftOf(state, NOTHING);
  if (options.expectNothingLeft === true)
    for (const item of leftItems) findings.push({ rule: 'left-behind', line: 0, detail: item });
  else if (exported !== undefined)
    for (const item of leftOf(state, wantedBy(exported)))
      findings.push({ rule: 'left-behind', line: 0, detail: `${item}, which no machine has` });
  const minimum = options.minimumGuests ?? 1;
  if (counts.guestsCreated < minimum)
    findings.push({
      rule: 'no-work',
      line: 0,
      detail: `${counts.guestsCreated} guests were made, at least ${minimum} were expected: this run proves nothing`,
    });

  return {
    ok: findings.length === 0 && missing.length === 0,
    collisions: findings.filter(({ rule }) => rule.endsWith('-collision')).length,
    foreignWrites: findings.filter(({ rule }) => rule === 'foreign-write').length,
    left: leftItems.length,
    leftItems,
    missing,
    findings,
    counts,
    void: options.work === undefined ? [] : missingWork(options.work, counts, { firedFaults, deeds }),
  };
}

interface State {
  readonly guests: GuestLedger;
  readonly services: ServiceLedger;
  readonly pools: PoolLedger;
  readonly nodeFiles: NodeFileLedger;
}

function count(line: JournalLine, counts: Counts): void {
  counts.lines += 1;
  if (line.event === 'request' && line.sim === 'proxmox') counts.proxmoxRequests += 1;
  if (line.event === 'request' && line.sim === 'guacamole' && line.status !== undefined)
    counts.guacamoleRequests += 1;
  if (line.event === 'request' && line.op === 'winrm.command') counts.winrmCommands += 1;
  if (line.event === 'fault') counts.faults += 1;
  if (line.event === 'foreign' || isDeedOverApi(line)) counts.foreignActions += 1;
}

/** Somebody who is not the product changed something, or began to. */
function isDeedOverApi({ event, actor, effect, upid }: JournalLine): boolean {
  return (
    event === 'request' && actor?.startsWith('foreign-') === true && (effect === true || upid !== undefined)
  );
}

/** Locks, and reads by which nobody learns what became of a request, prove nothing here. */
function isEvidence(line: JournalLine): boolean {
  if (line.event === 'hold' || line.event === 'fault') return false;
  return (
    line.event !== 'request' ||
    line.effect === true ||
    line.op === 'winrm.command' ||
    isRead(line.op ?? '') ||
    isMake(line.op ?? '') ||
    (line.op ?? '').endsWith('.destroy')
  );
}

function findMissing(
  { guests, services }: State,
  exported: Export | undefined,
  parts: NonNullable<CheckOptions['parts']>,
): Missing[] {
  const ours = guests.ours();
  const missing: Missing[] = [];
  const need = (machine: string, vmid: number, what: Missing['what'], isThere: boolean): void => {
    if (!isThere) missing.push({ machine, vmid, what });
  };
  const needServices = (guest: LedgerGuest, machine: string, login: string | undefined): void => {
    if (parts.filter !== false)
      need(machine, guest.vmid, 'filter', guest.mac !== undefined && services.filters.has(guest.mac));
    if (parts.desktop === false) return;
    const connection = connectionOf(services, machine, guest.address);
    need(machine, guest.vmid, 'connection', connection !== undefined);
    if (connection !== undefined)
      need(machine, guest.vmid, 'permission', mayOpen(services, connection, login));
  };
  if (exported === undefined) {
    for (const guest of ours)
      if (guest.isRunning && guest.wasAllowed)
        needServices(guest, guest.name ?? String(guest.vmid), undefined);
    return missing;
  }
  for (const { name, vmid, mac, address, login, state } of exported.machines) {
    if (state !== 'ready') continue;
    const guest = ours.find((one) => one.vmid === vmid && one.name === name);
    need(name, vmid, 'guest', guest !== undefined);
    if (guest === undefined) continue;
    need(name, vmid, 'running', guest.isRunning);
    need(name, vmid, 'mac', guest.mac === mac.toLowerCase());
    if (typeof address === 'string') need(name, vmid, 'address', guest.address === address);
    needServices(guest, name, login);
  }
  return missing;
}

function connectionOf(
  services: ServiceLedger,
  name: string,
  address: string | undefined,
): LedgerConnection | undefined {
  return [...services.connections.values()].find(
    (one) => one.name === name && (address === undefined || one.hostname === address),
  );
}

/** READ on the connection and, to see it in the tree, on its group. */
function mayOpen(
  services: ServiceLedger,
  { id, parent }: LedgerConnection,
  login: string | undefined,
): boolean {
  const logins = login === undefined ? [...services.permissions.values()].map((one) => one.login) : [login];
  return logins.some(
    (one) =>
      services.has(one, 'connection', id) &&
      (parent === 'ROOT' || services.has(one, 'connectionGroup', parent)),
  );
}

function checkSubmits(
  { guests }: State,
  submits: readonly Submit[],
  exported: Export | undefined,
  findings: Finding[],
): void {
  const report = (rule: Rule, detail: string): void => void findings.push({ rule, line: 0, detail });
  const asked = new Map(
    submits.flatMap(({ batch, machines }) =>
      machines.map((name) => [`${batch ?? ''}/${name}`, { batch, name }]),
    ),
  );
  const ours = guests.ours();
  for (const { batch, name } of asked.values()) {
    const count = ours.filter((guest) => guest.name === name).length;
    if (count > 1) report('double-machine', `the machine ${name} is there ${count} times`);
    if (exported === undefined) {
      if (count === 0) report('lost-submit', `the machine ${name} was asked for and is not there`);
      continue;
    }
    const machine = exported.machines.findLast(
      (one) => one.name === name && (batch === undefined || one.batch === batch),
    );
    const state = exported.runs.get(machine?.run ?? '');
    if (machine === undefined) report('lost-submit', `the machine ${name} was asked for and nobody knows it`);
    else if (state === undefined || MOVING.has(state))
      report('unended-run', `the run of the machine ${name} is ${state ?? 'nowhere'} and not at its end`);
  }
}

/** By its mark a machine has one live guest at most, whatever its name and VMID are. */
function checkTwins({ guests }: State, { machines }: Export, findings: Finding[]): void {
  const vmidsOf = new Map<string, number[]>();
  for (const { mark, vmid } of guests.ours()) {
    const machine = markOf(mark)?.machine;
    if (machine !== undefined) vmidsOf.set(machine, [...(vmidsOf.get(machine) ?? []), vmid]);
  }
  for (const { id, name } of machines) {
    const vmids = vmidsOf.get(id) ?? [];
    if (vmids.length > 1)
      findings.push({
        rule: 'double-machine',
        line: 0,
        detail: `the machine ${name} has the guests ${vmids.join(', ')}`,
      });
  }
}

interface Wanted {
  readonly guest: (guest: LedgerGuest) => boolean;
  readonly mac: (mac: string) => boolean;
  /** `group` = the name of its parent. */
  readonly connection: (connection: LedgerConnection, group: string | undefined) => boolean;
  readonly group: (name: string) => boolean;
  readonly account: (login: string) => boolean;
  readonly volume: (volume: string) => boolean;
  readonly file: (file: string) => boolean;
}

const NOTHING: Wanted = {
  guest: () => false,
  mac: () => false,
  connection: () => false,
  group: () => false,
  account: () => false,
  volume: () => false,
  file: () => false,
};

function wantedBy({ machines, notedVmids, released }: Export): Wanted {
  const live = machines.filter(({ state }) => !GONE.has(state));
  const idOf = new Map(live.map(({ vmid, id }) => [vmid, id]));
  const macs = new Set(live.map(({ mac }) => mac.toLowerCase()));
  const names = new Set(live.map(({ name }) => name));
  const isReleased = (kind: string, key: string): boolean =>
    released.some((one) => one.kind === kind && one.key === key);
  return {
    /** Its own one: a guest with the VMID of a machine and the mark of another is nobody's. */
    guest: ({ vmid, mark }) => {
      const isOf = (machine: string | undefined): boolean =>
        machine !== undefined && [undefined, machine].includes(markOf(mark)?.machine);
      const letGo = released.filter(({ kind, key }) => kind === 'guest' && key === String(vmid));
      return isOf(idOf.get(vmid)) || letGo.some(({ machine }) => isOf(machine));
    },
    mac: (mac) => macs.has(mac) || isReleased('dhcp-filter', mac),
    connection: ({ name }, group) =>
      names.has(name) || isReleased('desktop-connection', `${group ?? ''}/${name}`),
    group: (name) => isReleased('desktop-group', name),
    account: (login) => isReleased('desktop-user', login),
    /** Nobody may free it by right, so it is set aside and told to people. */
    volume: (volume) => notedVmids.has(Number(/-(\d+)-/.exec(volume)?.[1])),
    /** Each is of one machine, whose id is in its name. */
    file: (file) =>
      live.some(({ id }) => file.includes(id)) ||
      released.some(({ machine }) => machine !== undefined && file.includes(machine)),
  };
}

/** What deployments made and what nobody wants any more. A group, an account or a permission is wanted as long as a wanted connection needs it. */
function leftOf({ guests, services, pools, nodeFiles }: State, wants: Wanted): string[] {
  const left: string[] = [];
  const ours = guests.ours();
  for (const guest of ours)
    if (!wants.guest(guest)) left.push(`guest ${guest.vmid} (${guest.name ?? 'without a name'})`);
  for (const { pool, vmid } of pools.members())
    if (!ours.some((guest) => guest.vmid === vmid)) left.push(`membership of VMID ${vmid} in ${pool}`);
  for (const volume of guests.orphanedVolumes()) if (!wants.volume(volume)) left.push(`volume ${volume}`);
  for (const file of nodeFiles.files()) if (!wants.file(file)) left.push(`file ${file}`);
  for (const { mac, creator } of services.filters.values())
    if (isDeployment(creator) && !wants.mac(mac)) left.push(`filter ${mac}`);

  const wanted = [...services.connections.values()].filter((one) =>
    wants.connection(one, services.groups.get(one.parent)?.name),
  );
  const keptConnections = new Set(wanted.map(({ id }) => id));
  const keptGroups = new Set(wanted.map(({ parent }) => parent));
  const keptUsers = new Set<string>();
  for (const { creator, login, kind, id, permission } of services.permissions.values()) {
    const isKept =
      kind === 'connection' ? keptConnections.has(id) : kind === 'connectionGroup' && keptGroups.has(id);
    if (isKept) keptUsers.add(login);
    else if (isDeployment(creator)) left.push(`permission ${permission} of ${login} on ${kind} ${id}`);
  }
  for (const { creator, id, name } of services.connections.values())
    if (isDeployment(creator) && !keptConnections.has(id)) left.push(`connection ${id} (${name})`);
  for (const { creator, id, name } of services.groups.values())
    if (isDeployment(creator) && !keptGroups.has(id) && !wants.group(name))
      left.push(`connection group ${id} (${name})`);
  for (const { creator, id } of services.users.values())
    if (isDeployment(creator) && !keptUsers.has(id) && !wants.account(id)) left.push(`account ${id}`);
  return left;
}
