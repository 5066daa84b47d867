import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { HatcheryError } from '../../core/errors.js';
import { enrol } from './enrol.js';
import { ForeignActor, type ForeignHabits } from './foreign-actor.js';
import { PveApi, type Access } from './pve-api.js';

export interface ForeignSettings extends ForeignHabits {
  /** Part of its account's name: `foreign-<name>@pve`. */
  readonly name: string;
  /** Wall-clock seconds between two deeds, on average. */
  readonly everySeconds: number;
}

export interface RunningForeigner {
  /** As the journal names it. */
  readonly actor: string;
  readonly did: ForeignActor['did'];
  /** Ends after the deed that is being done; what it made stays. */
  stop(): Promise<void>;
}

/** Lets somebody work on the cluster until `stop`. `admin` may make accounts there. */
export async function startForeigner(admin: Access, settings: ForeignSettings): Promise<RunningForeigner> {
  const { name, who, pool, everySeconds } = settings;
  const token = await enrol(admin, { name, pool: who === 'deployment' ? pool : undefined });
  const api = new PveApi({ ...admin, token });
  const actor = new ForeignActor(api, settings);
  const stopped = new AbortController();
  const { signal } = stopped;
  const work = async (): Promise<void> => {
    while (!signal.aborted) {
      await sleep(actor.pauseMs(everySeconds * 1_000), undefined, { signal }).catch(() => undefined);
      if (!signal.aborted) await actor.act();
    }
  };
  const working = work();
  return {
    actor: token.id,
    did: actor.did,
    async stop() {
      stopped.abort();
      await working.finally(() => api.close());
    },
  };
}

const lineSchema = z.object({
  endpoints: z.array(z.string()).min(1),
  caFile: z.string(),
  rootTokenId: z.string(),
  rootTokenSecret: z.string(),
  simulators: z.array(z.object({ simulator: z.string(), endpoints: z.array(z.string()).min(1) })).optional(),
});

/** How to reach a cluster as its administrator: the line that its simulator printed, kept in a file. */
export function readAccess(file: string): Access {
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw unreadable(file, error instanceof Error ? error.message : String(error));
  }
  const line = lineSchema.safeParse(content);
  if (!line.success) throw unreadable(file, z.prettifyError(line.error));
  const { simulators, caFile, rootTokenId, rootTokenSecret } = line.data;
  const endpoints =
    simulators?.find(({ simulator }) => simulator === 'proxmox')?.endpoints ?? line.data.endpoints;
  const token = { id: rootTokenId, secret: rootTokenSecret };
  return { endpoints, ca: readFileSync(caFile, 'utf8'), token };
}

function unreadable(file: string, why: string): HatcheryError {
  return new HatcheryError(
    'settings-invalid',
    `Unable to read how to reach the cluster from ${file}: ${why}`,
    {
      hint: 'Keep what the simulator prints: hatchery simulate proxmox > simulator.json',
    },
  );
}
