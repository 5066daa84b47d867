import type { SimClock } from './clock.js';
import type { Faults } from './faults.js';
import type { Holds } from './hold.js';
import type { Journal } from './journal.js';
import type { SimRandom } from './seed.js';
import type { CertificateAuthority } from './tls.js';
import type { World } from './world.js';

/**
 * What all simulators of a process share. `startSimulators` (simulators.ts) makes one and stops it; a simulator gets it and
 * - keeps everything that outlives a request in `world` (it is what `--state` saves and what the other simulators see),
 * - waits only with `clock.sleep(simulatedMs)`, draws only from `random.stream(op, id)`,
 * - listens with `listen` of http.ts and answers each request inside `perform` (operation.ts), which applies holds and faults and writes the journal line.
 */
export interface SimulatorContext {
  readonly world: World;
  readonly clock: SimClock;
  readonly random: SimRandom;
  readonly journal: Journal;
  readonly faults: Faults;
  readonly holds: Holds;
  readonly authority: CertificateAuthority;
  /** Private folder (0700) that is removed on stop; `caFile` is in it. */
  readonly dir: string;
  readonly caFile: string;
}

export interface ListenOptions {
  /** 0 or left out = a free one. Always on 127.0.0.1. */
  readonly port?: number;
  /** Idle connections end after this (wall time); left out = as on the real server. */
  readonly keepAliveMs?: number | undefined;
}

/** What every simulator gives back. `stop` closes its sockets; the context is stopped by who made it. */
export interface RunningSimulator {
  /** e.g. `https://127.0.0.1:8006`, without a path of the API. */
  readonly endpoints: readonly string[];
  readonly username?: string;
  readonly password?: string;
  /** SHA-256 of the first endpoint's certificate, 32 pairs of hex digits with colons; absent on plain HTTP. */
  readonly fingerprint?: string;
  stop(): Promise<void>;
}
