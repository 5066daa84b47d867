import type { ListenOptions, SimulatorContext } from './context.js';
import { createContext, type ContextSettings } from './create-context.js';
import { startGuacamoleSimulator } from './guacamole/guacamole-simulator.js';
import type { SimulatorName } from './names.js';
import { startProxmoxSimulator, type ProxmoxSimulator } from './proxmox/proxmox-simulator.js';
import { startWinrmSimulator } from './winrm/winrm-simulator.js';
import type { World } from './world.js';

export interface SimulatorSettings extends ContextSettings {
  readonly which: readonly SimulatorName[];
  /** The first listener's port (Proxmox: P, P+1, ... one per node); the others follow, the SSH servers of the nodes last. 0 or left out = free ones. */
  readonly port?: number;
  /** Idle connections end after this (wall time); left out = as on the real servers. */
  readonly keepAliveMs?: number;
}

export interface Simulators {
  readonly context: SimulatorContext;
  readonly world: World;
  readonly proxmox?: ProxmoxSimulator;
  readonly winrm?: Awaited<ReturnType<typeof startWinrmSimulator>>;
  readonly guacamole?: Awaited<ReturnType<typeof startGuacamoleSimulator>>;
  /** Closes every socket and timer, saves the world, removes the folder. */
  stop(): Promise<void>;
}

/** Starts the named simulators in this process, on one world and one journal. */
export async function startSimulators(settings: SimulatorSettings): Promise<Simulators> {
  const context = createContext(settings);
  const stops: (() => Promise<void>)[] = [];
  const stop = async (): Promise<void> => {
    const results = await Promise.allSettled(stops.map((one) => one()));
    context.close();
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  };
  const track = async <T extends { stop(): Promise<void> }>(starting: Promise<T>): Promise<T> => {
    const started = await starting;
    stops.push(() => started.stop());
    return started;
  };
  let next = settings.port ?? 0;
  const take = (count: number): ListenOptions => {
    const port = next;
    if (next !== 0) next += count;
    return { port, keepAliveMs: settings.keepAliveMs };
  };
  try {
    const wants = (name: SimulatorName): boolean => settings.which.includes(name);
    const others = ['winrm', 'guacamole'] as const;
    const before = context.world.nodes.length + others.filter(wants).length;
    const sshPort = next === 0 ? 0 : next + before;
    const proxmox = wants('proxmox')
      ? await track(startProxmoxSimulator(context, { ...take(context.world.nodes.length), sshPort }))
      : undefined;
    const winrm = wants('winrm') ? await track(startWinrmSimulator(context, take(1))) : undefined;
    const guacamole = wants('guacamole') ? await track(startGuacamoleSimulator(context, take(1))) : undefined;
    return {
      context,
      world: context.world,
      ...(proxmox && { proxmox }),
      ...(winrm && { winrm }),
      ...(guacamole && { guacamole }),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
