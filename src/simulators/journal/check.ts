import { isDeployment } from './actors.js';
import { readExport, readSubmits, type ExportedMachine, type Submit } from './expectations.js';
import { GuestLedger, type LedgerGuest } from './guest-ledger.js';
import { readLines } from './read-lines.js';
import { ServiceLedger, type LedgerConnection } from './service-ledger.js';
import { noCounts, type Counts, type Finding, type JournalVerdict, type Missing } from './verdict.js';
import type { JournalLine } from '../journal.js';

export interface CheckOptions {
  /** Machine list of the product: each ready one must be whole, and nothing else may be left. Without it every running guest of ours that DHCP knows must be whole. */
  readonly exportFile?: string;
  /** Accepted submits: each machine of them must be there exactly once. */
  readonly submitsFile?: string;
  /** Guests that the run must at least have made, so that a run that did nothing proves nothing. Default 1. */
  readonly minimumGuests?: number;
  /** Everything was deleted: whatever is left is a finding. */
  readonly expectNothingLeft?: boolean;
  /** Parts that a ready machine has; default all. */
  readonly parts?: { readonly filter?: boolean; readonly desktop?: boolean };
}

/** Machines in these states hold nothing outside any more. */
const GONE = new Set(['deleted', 'failed']);

/**
 * Judges a run by the journal alone, and knows nothing of the product: no VMID, name, MAC or address held by two live guests, no write to what a
 * deployment did not make, everything that a ready machine needs is there, nothing is left of what was deleted.
 */
export async function checkJournal(path: string, options: CheckOptions = {}): Promise<JournalVerdict> {
  const machines = options.exportFile === undefined ? undefined : await readExport(options.exportFile);
  const submits = options.submitsFile === undefined ? [] : await readSubmits(options.submitsFile);
  const findings: Finding[] = [];
  const counts = noCounts();
  const openTasks = new Set<string>();
  const guests = new GuestLedger(findings, counts);
  const services = new ServiceLedger(findings, counts);

  const { lines, unreadable, firstEvent } = await readLines(path, (line) => {
    count(line, counts);
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
    else if (line.sim === 'proxmox') guests.apply(line);
    else services.apply(line);
  }
  counts.openTasks = openTasks.size;

  const state = { guests, services };
  const missing = findMissing(state, machines, options.parts ?? {});
  checkSubmits(state, submits, findings);
  const leftItems = leftOf(state, () => false);
  if (options.expectNothingLeft === true)
    for (const item of leftItems) findings.push({ rule: 'left-behind', line: 0, detail: item });
  else if (machines !== undefined)
    for (const item of leftOf(state, wantedBy(machines)))
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
  };
}

interface State {
  readonly guests: GuestLedger;
  readonly services: ServiceLedger;
}

function count(line: JournalLine, counts: Counts): void {
  counts.lines += 1;
  if (line.event === 'request' && line.sim === 'proxmox') counts.proxmoxRequests += 1;
  if (line.event === 'request' && line.sim === 'guacamole' && line.status !== undefined)
    counts.guacamoleRequests += 1;
  if (line.event === 'request' && line.op === 'winrm.command') counts.winrmCommands += 1;
  if (line.event === 'fault') counts.faults += 1;
  if (line.event === 'foreign') counts.foreignActions += 1;
}

/** Reads and locks are most of a journal and prove nothing here. */
function isEvidence(line: JournalLine): boolean {
  if (line.event === 'hold' || line.event === 'fault') return false;
  return (
    line.event !== 'request' ||
    line.effect === true ||
    line.op === 'winrm.command' ||
    (line.op ?? '').endsWith('.destroy')
  );
}

function findMissing(
  { guests, services }: State,
  machines: readonly ExportedMachine[] | undefined,
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
  if (machines === undefined) {
    for (const guest of ours)
      if (guest.isRunning && guest.wasAllowed)
        needServices(guest, guest.name ?? String(guest.vmid), undefined);
    return missing;
  }
  for (const { name, vmid, mac, address, login, state } of machines) {
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

function checkSubmits({ guests }: State, submits: readonly Submit[], findings: Finding[]): void {
  const names = new Set(submits.flatMap((submit) => submit.machines));
  const ours = guests.ours();
  for (const name of names) {
    const count = ours.filter((guest) => guest.name === name).length;
    if (count === 0)
      findings.push({
        rule: 'lost-submit',
        line: 0,
        detail: `the machine ${name} was asked for and is not there`,
      });
    if (count > 1)
      findings.push({
        rule: 'double-machine',
        line: 0,
        detail: `the machine ${name} is there ${count} times`,
      });
  }
}

type Wanted = (thing: { guest?: LedgerGuest; mac?: string; connection?: LedgerConnection }) => boolean;

function wantedBy(machines: readonly ExportedMachine[]): Wanted {
  const live = machines.filter(({ state }) => !GONE.has(state));
  const vmids = new Set(live.map(({ vmid }) => vmid));
  const macs = new Set(live.map(({ mac }) => mac.toLowerCase()));
  const names = new Set(live.map(({ name }) => name));
  return ({ guest, mac, connection }) =>
    (guest !== undefined && vmids.has(guest.vmid)) ||
    (mac !== undefined && macs.has(mac)) ||
    (connection !== undefined && names.has(connection.name));
}

/** What deployments made and what nobody wants any more. A group, an account or a permission is wanted as long as a wanted connection needs it. */
function leftOf({ guests, services }: State, isWanted: Wanted): string[] {
  const left: string[] = [];
  for (const guest of guests.ours())
    if (!isWanted({ guest })) left.push(`guest ${guest.vmid} (${guest.name ?? 'without a name'})`);
  for (const volume of guests.orphanedVolumes()) left.push(`volume ${volume}`);
  for (const { mac, creator } of services.filters.values())
    if (isDeployment(creator) && !isWanted({ mac })) left.push(`filter ${mac}`);

  const wanted = [...services.connections.values()].filter((connection) => isWanted({ connection }));
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
    if (isDeployment(creator) && !keptGroups.has(id)) left.push(`connection group ${id} (${name})`);
  for (const { creator, id } of services.users.values())
    if (isDeployment(creator) && !keptUsers.has(id)) left.push(`account ${id}`);
  return left;
}
