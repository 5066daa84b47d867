import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SimClock } from './clock.js';
import type { SimulatorContext } from './context.js';
import { Faults, type FaultRule } from './faults.js';
import { readFaults } from './fault-file.js';
import { Holds } from './hold.js';
import { openJournal } from './journal.js';
import { SimRandom } from './seed.js';
import { loadWorld, saveWorld } from './state-file.js';
import { certificateAuthority } from './tls.js';
import { buildWorld, readWorldSpec, type WorldSpec } from './build-world.js';
import { worldFacts } from './world.js';

export interface ContextSettings {
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

/** A context without any listener: for tests of one simulator (`startWinrmSimulator(createContext({ timeScale: 0.01 }), {})`). Call `close` at the end. */
export function createContext(settings: ContextSettings = {}): SimulatorContext & { close(): void } {
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
  const rules =
    settings.faultsFile === undefined ? (settings.faults ?? []) : readFaults(settings.faultsFile, clock);
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
