import { parentPort, workerData } from 'node:worker_threads';
import { HatcheryError } from '../../core/errors.js';
import { readRoster } from '../../core/roster/roster.js';
import type { ThreadAnswer } from './roster-reader.js';

/** Reads one roster and says what came of it; ends with it. Started by `RosterReader` from the build. */
const answer = await readRoster(workerData as { name: string; bytes: Uint8Array }).then(
  (roster): ThreadAnswer => ({ roster }),
  (error: unknown): ThreadAnswer => {
    if (!(error instanceof HatcheryError)) throw error;
    const { message, hint, problems } = error;
    return { refusal: { message, hint, problems } };
  },
);
parentPort?.postMessage(answer);
