import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { HatcheryError } from '../core/errors.js';
import { SimClock } from './clock.js';
import type { SimulatorContext } from './context.js';
import { Faults, faultRuleSchema, type FaultRule } from './faults.js';
import { startGuacamoleSimulator } from './guacamole/guacamole-simulator.js';
import { Holds } from './hold.js';
import { openJournal } from './journal.js';
import { startProxmoxSimulator, type ProxmoxSimulator } from './proxmox/proxmox-simulator.js';
import { SimRandom } from './seed.js';
import { loadWorld, saveWorld } from './state-file.js';
import { certificateAuthority } from './tls.js';
import { startWinrmSimulator } from './winrm/winrm-simulator.js';
import { buildWorld, readWorldSpec, worldFacts, type World, type WorldSpec } from './world.js';

export const SIMULATOR_NAMES = ['proxmox', 'winrm', 'guacamole'] as const;
export type SimulatorName = (typeof SIMULATOR_NAMES)[number];

export interface SimulatorSettings {
  readonly which: readonly SimulatorName[];
  /** The first listener's port (Proxmox: P, P+1, ... one per node); the others follow. 0 or left out = free ones. */
  readonly port?: number;
  readonly seed?: string;
  /** Default 1. */
  readonly timeScale?: number;
  readonly world?: WorldSpec;
  readonly worldFile?: string;
  readonly faults?: readonly FaultRule[];
  readonly faultsFile?: string;
  /** Default: a file in the context's folder. */
  readonly journalFile?: string;
  /** World loaded at start when it exists, saved on stop. */
  readonly stateFile?: string;
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

/** A context without any listener: for tests of one simulator (`startWinrmSimulator(createContext({ timeScale: 0.01 }), {})`). */
export function createContext(
  settings: Omit<SimulatorSettings, 'which' | 'port'> = {},
): SimulatorContext & { close(): void } {
  const loaded = settings.stateFile === undefined ? undefined : loadWorld(settings.stateFile);
  const spec = settings.worldFile === undefined ? settings.world : readWorldSpec(settings.worldFile);
  const world = loaded ?? buildWorld(spec, settings.seed);
  const clock = new SimClock(settings.timeScale ?? 1, world.elapsedMs);
  const random = new SimRandom(`${world.seed}|${world.life}`);
  const dir = mkdtempSync(join(tmpdir(), 'hatchery-sim-'));
  const authority = certificateAuthority(world.certificates);
  const caFile = join(dir, 'ca.pem');
  writeFileSync(caFile, authority.caPem);
  const journal = openJournal(
    settings.journalFile ?? join(dir, 'journal.ndjson'),
    worldFacts(world, clock.timeScale),
  );
  const rules = settings.faultsFile === undefined ? (settings.faults ?? []) : readFaults(settings.faultsFile);
  return {
    world,
    clock,
    random,
    journal,
    faults: new Faults(clock, random, journal, rules),
    holds: new Holds(clock.signal),
    authority,
    dir,
    caFile,
    close() {
      world.elapsedMs = clock.elapsedMs();
      clock.stop();
      if (settings.stateFile !== undefined) saveWorld(settings.stateFile, world);
      journal.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
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
  const take = (count: number): { port: number } => {
    const port = next;
    if (next !== 0) next += count;
    return { port };
  };
  try {
    const wants = (name: SimulatorName): boolean => settings.which.includes(name);
    const proxmox = wants('proxmox')
      ? await track(startProxmoxSimulator(context, take(context.world.nodes.length)))
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

function readFaults(file: string): FaultRule[] {
  const parsed = z.array(faultRuleSchema).safeParse(parse(readFileSync(file, 'utf8')) ?? []);
  if (!parsed.success)
    throw new HatcheryError(
      'settings-invalid',
      `Unable to read the fault rules ${file}: ${z.prettifyError(parsed.error)}`,
    );
  return parsed.data;
}
