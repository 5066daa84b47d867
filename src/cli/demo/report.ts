import type { BatchResults } from '../../client/types.gen.js';
import type { RemoteCalls } from './journal-calls.js';

/** What `--json` prints (CONTRACT: Demo). */
export interface DemoReport {
  readonly batch: string;
  readonly machines: number;
  readonly ready: number;
  readonly failed: number;
  readonly seconds: number | null;
  readonly firstReadySeconds: number | null;
  readonly medianReadySeconds: number | null;
  readonly timeScale: number;
  readonly proxmoxCallsPerMachine: number;
  readonly winrmCommandsPerMachine: number;
  readonly collisions: number;
  readonly left?: number;
  readonly journal: string;
}

export interface ReportFacts {
  readonly results: BatchResults;
  /** Milliseconds from the 202 to each machine that became ready, and to the end; `undefined` = the class was there already. */
  readonly times: { readonly readyMs: readonly number[]; readonly endMs: number } | undefined;
  readonly calls: RemoteCalls;
  readonly collisions: number;
  readonly left: number | undefined;
  readonly timeScale: number;
  readonly journal: string;
}

export function demoReport({
  results,
  times,
  calls,
  collisions,
  left,
  timeScale,
  journal,
}: ReportFacts): DemoReport {
  const { total, ready } = results.counts;
  const sorted = [...(times?.readyMs ?? [])].sort((a, b) => a - b);
  return {
    batch: results.batch,
    machines: total,
    ready,
    failed: total - ready,
    seconds: seconds(times?.endMs),
    firstReadySeconds: seconds(sorted[0]),
    medianReadySeconds: seconds(sorted[Math.floor((sorted.length - 1) / 2)]),
    timeScale,
    proxmoxCallsPerMachine: perMachine(calls.proxmox, total),
    winrmCommandsPerMachine: perMachine(calls.winrmCommands, total),
    collisions,
    ...(left === undefined ? {} : { left }),
    journal,
  };
}

const seconds = (ms: number | undefined): number | null =>
  ms === undefined ? null : Math.round(ms / 10) / 100;
const perMachine = (calls: number, machines: number): number => Math.round((calls / machines) * 100) / 100;
