import { GuacamoleModel } from '../../src/simulators/guacamole/guacamole-model.js';
import type { JournalLine } from '../../src/simulators/journal.js';
import { poolOf } from '../../src/simulators/world.js';
import type { SimulatedSite } from './simulated-site.js';
import type { TestMachine } from './step-world.js';

/** Everything that stands in the simulated world, as text by name: two of these differ in exactly what came, went or changed. */
export function thingsOutside({ simulators: { world } }: SimulatedSite): Record<string, string> {
  const { guests, volumes, files, nodeFiles, dhcp, guacamole } = world;
  const things = new Map<string, unknown>();
  for (const [vmid, { node, status, config, rawLines, pending }] of guests)
    things.set(`guest ${vmid}`, { node, status, config, rawLines, pending, pool: poolOf(world, vmid) });
  for (const [key, volume] of volumes) things.set(`volume ${key}`, volume);
  for (const [key, file] of [...files, ...nodeFiles]) things.set(`file ${key}`, file);
  for (const list of ['allow', 'deny'] as const)
    for (const [mac, filter] of dhcp[list]) things.set(`${list} ${mac}`, filter);
  for (const [id, group] of guacamole.groups) things.set(`group ${id}`, group);
  for (const [id, connection] of guacamole.connections) things.set(`connection ${id}`, connection);
  for (const [login, { permissions, ...user }] of guacamole.users)
    things.set(`user ${login}`, {
      ...user,
      permissions: [...permissions].map(([on, names]) => `${on}: ${[...names].sort().join(' ')}`).sort(),
    });
  return Object.fromEntries([...things].map(([name, thing]) => [name, JSON.stringify(thing)]));
}

/** Names of what stands there for one machine, whoever made it. */
export function thingsOf(site: SimulatedSite, machine: TestMachine, vmid: number): string[] {
  const words = [...wordsOf(machine), `"vm-${vmid}-`];
  return Object.entries(thingsOutside(site))
    .filter(
      ([name, thing]) => name === `guest ${vmid}` || words.some((word) => `${name} ${thing}`.includes(word)),
    )
    .map(([name]) => name);
}

/** Somebody else takes away all that was made for a machine. */
export function removeByForeignHand(site: SimulatedSite, machine: TestMachine, vmid: number): void {
  const { proxmox, world } = site.simulators;
  if (world.guests.has(vmid)) proxmox.foreign.remove(vmid);
  for (const files of [world.files, world.nodeFiles])
    for (const key of files.keys()) if (isOf(machine, key)) files.delete(key);
  world.dhcp.allow.delete(machine.mac);
  const guacamole = new GuacamoleModel(world.guacamole);
  for (const [id, group] of world.guacamole.groups) if (isOf(machine, group.name)) guacamole.removeGroup(id);
  for (const [id, connection] of world.guacamole.connections)
    if (isOf(machine, connection.name)) guacamole.removeConnection(id);
  if (world.guacamole.users.has(machine.login)) guacamole.removeUser(machine.login);
}

/** What the product changed for one machine, by the journal. A script's own line says no more than the lines of its cmdlets. */
export function writesFor(lines: readonly JournalLine[], machine: TestMachine, vmid: number): JournalLine[] {
  return lines.filter(
    (line) =>
      line.effect === true &&
      (line.event === 'request' || line.event === 'task-end') &&
      line.op !== 'winrm.script' &&
      (line.vmid === vmid || isOf(machine, JSON.stringify([line.resource, line.params]))),
  );
}

/** Counted by what they are, so that two machines can be compared. */
export function kindsOf(lines: readonly JournalLine[]): string[] {
  return lines.map((line) => `${line.event} ${line.op}`).sort();
}

/** Under which name the operation that made this line can be held: cmdlets by their script, a change of many parts by its request. */
export function holdOf(line: JournalLine, journal: readonly JournalLine[]): string {
  const from = journal.findIndex((one) => one.writer === line.writer && one.seq === line.seq);
  if (line.sim !== 'winrm') return journal.findLast((one) => one.ns === line.ns)?.op ?? '';
  const script = journal.slice(from).find((one) => one.sim === 'winrm' && one.op === 'winrm.script');
  return `winrm.script.${String(script?.params?.['script']).split(' ')[0]}`;
}

const wordsOf = ({ id, login, mac, batch }: TestMachine): string[] => [id, login, mac, batch];
const isOf = (machine: TestMachine, text: string): boolean =>
  wordsOf(machine).some((word) => text.includes(word));
