import type { WorldGuest } from '../world.js';
import {
  fileSystemsOf,
  hostName,
  interfacesOf,
  MEMORY_BLOCK,
  memoryBlocksOf,
  processorsOf,
  systemOf,
  trim,
} from './agent-facts.js';
import { refusalOf } from './agent-reach.js';
import { drawMs } from './durations.js';
import type { Pve } from './pve.js';
import { takeDown } from './running.js';
import { failure } from './wire.js';

/** How long a command is waited for that is not known to be slow. */
const ANSWER_MS = 5_000;

const AUDIT = ['VM.GuestAgent.Audit', 'VM.GuestAgent.Unrestricted'];
const FILE_SYSTEMS = ['VM.GuestAgent.FileSystemMgmt', 'VM.GuestAgent.Unrestricted'];
const POWER = ['VM.PowerMgmt', 'VM.GuestAgent.Unrestricted'];

/** A command without parameters. */
export interface AgentCommand {
  readonly method: 'GET' | 'POST';
  readonly privileges: readonly string[];
  readonly op?: string;
  /** Does it change whether the guest runs. */
  readonly isPower?: true;
  readonly answer: (pve: Pve, guest: WorldGuest) => unknown;
}

const tell = (answer: AgentCommand['answer'], op?: string): AgentCommand => ({
  method: 'GET',
  privileges: AUDIT,
  answer,
  ...(op === undefined ? {} : { op }),
});
const manage = (answer: AgentCommand['answer'], privileges = FILE_SYSTEMS): AgentCommand => ({
  method: 'POST',
  privileges,
  answer,
});
const power = (answer: AgentCommand['answer']): AgentCommand => ({
  method: 'POST',
  privileges: POWER,
  isPower: true,
  answer,
});

/** By the name that the agent's protocol has for them. */
export const AGENT_COMMANDS: Readonly<Record<string, AgentCommand>> = {
  'fsfreeze-freeze': manage((pve, guest) => setFrozen(pve, guest, true)),
  'fsfreeze-status': manage(
    (_, guest) => (guest.isFrozen ? 'frozen' : 'thawed'),
    ['VM.GuestAgent.Audit', ...FILE_SYSTEMS],
  ),
  'fsfreeze-thaw': manage((pve, guest) => setFrozen(pve, guest, false)),
  fstrim: manage(trim),
  'get-fsinfo': tell(fileSystemsOf),
  'get-host-name': tell((_, guest) => ({ 'host-name': hostName(guest) })),
  'get-memory-block-info': tell(() => MEMORY_BLOCK),
  'get-memory-blocks': tell((_, guest) => memoryBlocksOf(guest)),
  'get-osinfo': tell((_, guest) => systemOf(guest)),
  'get-time': tell((pve) => pve.context.clock.unixSeconds() * 1_000_000_000),
  'get-timezone': tell(() => ({ offset: 0, zone: 'UTC' })),
  'get-users': tell(() => []),
  'get-vcpus': tell((_, guest) => processorsOf(guest)),
  info: tell((_, guest) => aboutAgent(guest)),
  'network-get-interfaces': tell(interfacesOf, 'qemu.agent.interfaces'),
  ping: manage(() => ({}), AUDIT),
  shutdown: power((pve, guest) => goDown(pve, guest, 'shutdown')),
  'suspend-disk': power((pve, guest) => goDown(pve, guest, 'stop')),
  'suspend-hybrid': power((pve, guest) => sleep(pve, guest, 'hybrid')),
  'suspend-ram': power((pve, guest) => sleep(pve, guest, 'ram')),
};

/** Those that Proxmox VE sends for its calls with parameters. */
const OTHERS = ['exec', 'exec-status', 'file-close', 'file-open', 'file-read', 'file-seek', 'file-write'];

function aboutAgent(guest: WorldGuest): unknown {
  const names = [...Object.keys(AGENT_COMMANDS), ...OTHERS, 'set-user-password'];
  return {
    version: '7.2.19',
    supported_commands: names.map((name) => ({
      name: `guest-${name}`,
      enabled: refusalOf(guest, name) === undefined,
      'success-response': !AGENT_COMMANDS[name]?.isPower,
    })),
  };
}

/** Gives how many file systems changed. */
function setFrozen(pve: Pve, guest: WorldGuest, isFrozen: boolean): number {
  if (guest.isFrozen === isFrozen) return 0;
  guest.isFrozen = isFrozen;
  return fileSystemsOf(pve, guest).length;
}

/** The call lasts until the guest is off; the agent says nothing to it. */
async function goDown(pve: Pve, guest: WorldGuest, how: 'shutdown' | 'stop'): Promise<null> {
  const { startedAtMs } = guest;
  await pve.context.clock.sleep(drawMs(pve.context, how, guest.vmid));
  if (guest.startedAtMs === startedAtMs) takeDown(guest);
  return null;
}

/** It sleeps in its memory and answers nothing any more, this call included. `resume` wakes it. */
async function sleep(pve: Pve, guest: WorldGuest, how: 'hybrid' | 'ram'): Promise<never> {
  guest.isPaused = true;
  await pve.context.clock.sleep(ANSWER_MS);
  throw failure(`VM ${guest.vmid} qmp command 'guest-suspend-${how}' failed - got timeout`);
}
