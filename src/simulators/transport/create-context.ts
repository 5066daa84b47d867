import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SimClock } from '../clock.js';
import { readFaults } from '../fault-file.js';
import { Faults, type FaultRule } from '../faults.js';
import { joinJournal, openJournal } from '../journal.js';
import { SimRandom } from '../seed.js';
import { certificateAuthority } from '../tls.js';
import type { TransportContext } from './transport.js';

export interface TransportContextSettings {
  /** Default `1`. */
  readonly seed?: string;
  /** Multiplies the milliseconds of the rules. Default 1: wall-clock time, as leases, TTLs and outages of stores are. */
  readonly timeScale?: number;
  readonly faults?: readonly FaultRule[];
  readonly faultsFile?: string;
  /** Of simulators that run already; left out = one of its own. */
  readonly journalFile?: string;
}

/** What transports share that stand outside of a simulated world. Call `close` when they are stopped. */
export function createTransportContext(
  settings: TransportContextSettings = {},
): TransportContext & { readonly caFile: string; close(): void } {
  const { seed = '1', timeScale = 1, journalFile, faultsFile } = settings;
  const clock = new SimClock(timeScale);
  const rules = faultsFile === undefined ? (settings.faults ?? []) : readFaults(faultsFile, clock);
  const dir = mkdtempSync(join(tmpdir(), 'hatchery-transport-'));
  const authority = certificateAuthority(new Map(), 'Hatchery Transport');
  const caFile = join(dir, 'ca.pem');
  writeFileSync(caFile, authority.caPem);
  const journal =
    journalFile === undefined
      ? openJournal(join(dir, 'journal.ndjson'), { timeScale, seed, guests: [] })
      : joinJournal(journalFile);
  return {
    clock,
    faults: new Faults(clock, new SimRandom(seed), journal, rules),
    journal,
    authority,
    caFile,
    close() {
      clock.stop();
      journal.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
