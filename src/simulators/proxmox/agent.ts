import type { WorldGuest } from '../world.js';
import { needAny } from './auth.js';
import { agentEnabled, macOf } from './guest-config.js';
import { TEXT, type ParamSpecs } from './params.js';
import { guestOn, type Handled, type Pve, type PveCall, type Route } from './pve.js';
import { failure } from './wire.js';

/** A ping of a sleeping agent keeps the worker this long. */
const PING_MS = 3_000;

const AUDIT = ['VM.GuestAgent.Audit', 'VM.GuestAgent.Unrestricted'];
const EXECUTE = ['VM.GuestAgent.Unrestricted'];

/** The older version knows one privilege for all of it. */
const permit =
  (...privileges: string[]): Route['permit'] =>
  (account, path, _, world) =>
    needAny(account, `/vms/${path['vmid']}`, ...(world.version === '8.4' ? ['VM.Monitor'] : privileges));

interface Command {
  readonly method: 'GET' | 'POST';
  readonly privileges: readonly string[];
  readonly op?: string;
  readonly answer: (pve: Pve, guest: WorldGuest) => unknown;
}

/** Commands without parameters, by the name that the agent's protocol has for them. */
const COMMANDS: Readonly<Record<string, Command>> = {
  ping: { method: 'POST', privileges: AUDIT, answer: () => ({}) },
  'network-get-interfaces': {
    method: 'GET',
    privileges: AUDIT,
    op: 'qemu.agent.interfaces',
    answer: interfacesOf,
  },
  'get-host-name': {
    method: 'GET',
    privileges: AUDIT,
    answer: (_, guest) => ({ 'host-name': hostName(guest) }),
  },
  'get-osinfo': { method: 'GET', privileges: AUDIT, answer: (_, guest) => systemOf(guest) },
  'get-time': {
    method: 'GET',
    privileges: AUDIT,
    answer: (pve) => pve.context.clock.unixSeconds() * 1_000_000_000,
  },
  'get-timezone': { method: 'GET', privileges: AUDIT, answer: () => ({ offset: 0, zone: 'UTC' }) },
  'get-users': { method: 'GET', privileges: AUDIT, answer: () => [] },
  'get-vcpus': { method: 'GET', privileges: AUDIT, answer: (_, guest) => processorsOf(guest) },
};

export const agentRoutes: readonly Route[] = [
  ...Object.entries(COMMANDS).map(([name, command]): Route => ({
    method: command.method,
    path: `/nodes/{node}/qemu/{vmid}/agent/${name}`,
    op: command.op ?? `qemu.agent.${name}`,
    kind: 'agent',
    params: {},
    permit: permit(...command.privileges),
    handle: (call) => run(call, command),
  })),
  {
    method: 'POST',
    path: '/nodes/{node}/qemu/{vmid}/agent',
    op: 'qemu.agent',
    kind: 'agent',
    params: { command: { type: 'string', enum: allCommands() } },
    permit: permit(...EXECUTE),
    handle: (call) => run(call, COMMANDS[call.params.need('command')]),
  },
  {
    method: 'POST',
    path: '/nodes/{node}/qemu/{vmid}/agent/exec',
    op: 'qemu.agent.exec',
    kind: 'agent',
    params: {
      command: { type: 'array', items: TEXT },
      'input-data': { type: 'string', optional: true, maxLength: 65_536 },
    } satisfies ParamSpecs,
    permit: permit(...EXECUTE),
    handle: execute,
  },
  {
    method: 'GET',
    path: '/nodes/{node}/qemu/{vmid}/agent/exec-status',
    op: 'qemu.agent.exec-status',
    kind: 'agent',
    params: { pid: { type: 'integer' } },
    permit: permit(...EXECUTE),
    handle: executed,
  },
];

function allCommands(): string[] {
  return [
    ...['fsfreeze-freeze', 'fsfreeze-status', 'fsfreeze-thaw', 'fstrim', 'get-fsinfo', 'get-host-name'],
    ...['get-memory-block-info', 'get-memory-blocks', 'get-osinfo', 'get-time', 'get-timezone', 'get-users'],
    ...['get-vcpus', 'info', 'network-get-interfaces', 'ping', 'shutdown', 'suspend-disk', 'suspend-hybrid'],
    'suspend-ram',
  ];
}

/** A guest whose agent answers. The ping before a command takes 3 s when nobody does. */
async function awake({ pve, node, vmid }: PveCall): Promise<WorldGuest> {
  const guest = guestOn(pve, node, vmid);
  if (!agentEnabled(guest)) throw failure('No QEMU guest agent configured');
  if (guest.status !== 'running') throw failure(`VM ${vmid} is not running`);
  if (guest.isPaused || pve.context.clock.elapsedMs() < pve.conditions.agentOf(guest).upAtMs) {
    await pve.context.clock.sleep(PING_MS);
    throw failure('QEMU guest agent is not running');
  }
  return guest;
}

/** What this guest's agent does not have, it says as a real one of an older release does. */
async function run(call: PveCall, command: Command | undefined): Promise<Handled> {
  const guest = await awake(call);
  const name = call.params.text('command') ?? '';
  if (!command) throw failure(`Agent error: The command guest-${name} has been disabled for this instance`);
  return { data: { result: command.answer(call.pve, guest) } };
}

/** Programs of the simulated guest: it runs `echo`, `hostname` and `true`; nothing else is installed. */
async function execute(call: PveCall): Promise<Handled> {
  const guest = await awake(call);
  const [program = '', ...words] = call.params.list('command');
  const output = runProgram(guest, program, words);
  if (output === undefined)
    throw failure(
      `VM ${call.vmid} qmp command 'guest-exec' failed - Guest agent command failed, error was 'Failed to execute child process “${program}” (No such file or directory)'`,
    );
  const pid = 1_000 + guest.processes.length;
  guest.processes.push({ pid, output });
  return { data: { pid } };
}

function runProgram(guest: WorldGuest, program: string, words: readonly string[]): string | undefined {
  const name = program.split('/').at(-1);
  if (name === 'echo') return `${words.join(' ')}\n`;
  if (name === 'hostname') return `${hostName(guest)}\n`;
  return name === 'true' ? '' : undefined;
}

async function executed(call: PveCall): Promise<Handled> {
  const guest = await awake(call);
  const pid = call.params.number('pid');
  const at = guest.processes.findIndex((process) => process.pid === pid);
  const [process] = at < 0 ? [] : guest.processes.splice(at, 1);
  if (!process) throw failure(`Agent error: Invalid parameter 'pid'`);
  const { output } = process;
  return { data: { exited: 1, exitcode: 0, ...(output === '' ? {} : { 'out-data': output }) } };
}

function hostName(guest: WorldGuest): string {
  return (guest.config['name'] ?? `VM${guest.vmid}`).split('.')[0] ?? '';
}

function systemOf(guest: WorldGuest): Record<string, string> {
  return (guest.config['ostype'] ?? '').startsWith('w')
    ? { id: 'mswindows', name: 'Microsoft Windows', 'pretty-name': 'Windows 11 Pro', machine: 'x86_64' }
    : {
        id: 'debian',
        name: 'Debian GNU/Linux',
        'pretty-name': 'Debian GNU/Linux 12 (bookworm)',
        version: '12 (bookworm)',
        'version-id': '12',
        'kernel-release': '6.1.0-40-amd64',
        'kernel-version': '#1 SMP PREEMPT_DYNAMIC Debian',
        machine: 'x86_64',
      };
}

function processorsOf(guest: WorldGuest): unknown[] {
  const count = Number(guest.config['cores'] ?? 1) * Number(guest.config['sockets'] ?? 1);
  return Array.from({ length: count }, (_, id) => ({
    'logical-id': id,
    online: true,
    'can-offline': id > 0,
  }));
}

function interfacesOf(pve: Pve, guest: WorldGuest): unknown[] {
  const mac = macOf(guest) ?? '00:00:00:00:00:00';
  const v6 = [{ 'ip-address': linkLocal(mac), 'ip-address-type': 'ipv6', prefix: 64 }];
  const v4 =
    guest.address === undefined
      ? []
      : [{ 'ip-address': guest.address, 'ip-address-type': 'ipv4', prefix: 16 }];
  const loopback = {
    name: 'lo',
    'hardware-address': '00:00:00:00:00:00',
    'ip-addresses': [{ 'ip-address': '127.0.0.1', 'ip-address-type': 'ipv4', prefix: 8 }],
  };
  const own = { name: 'eth0', 'hardware-address': mac, 'ip-addresses': [...v4, ...v6] };
  const random = pve.context.random.stream('nics', guest.vmid);
  const others = Array.from({ length: pve.conditions.agentOf(guest).extraNics }, (_, index) => ({
    name: `docker${index}`,
    'hardware-address': `02:42:${random.hex(8).replace(/(..)(?=.)/g, '$1:')}`,
    'ip-addresses': [{ 'ip-address': `172.${17 + index}.0.1`, 'ip-address-type': 'ipv4', prefix: 16 }],
  }));
  // In any order: one may come before ours.
  const cards = [own, ...others].map((card) => ({ card, place: random.next() }));
  cards.sort((a, b) => a.place - b.place);
  return [loopback, ...cards.map(({ card }) => card)];
}

/** fe80:: address with the modified EUI-64 of the MAC. */
function linkLocal(mac: string): string {
  const bytes = mac.split(':').map((part) => Number.parseInt(part, 16));
  const eui = [(bytes[0] ?? 0) ^ 2, bytes[1], bytes[2], 0xff, 0xfe, bytes[3], bytes[4], bytes[5]];
  const hex = eui.map((byte) => (byte ?? 0).toString(16).padStart(2, '0')).join('');
  return `fe80::${hex
    .match(/.{4}/g)
    ?.map((group) => group.replace(/^0{1,3}/, ''))
    .join(':')}`;
}
