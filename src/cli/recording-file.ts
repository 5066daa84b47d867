import { readFile } from 'node:fs/promises';
import type { ClusterRecording } from '../core/cluster-recording.js';
import { HatcheryError } from '../core/errors.js';

/** Its schema takes as long to load as the whole command line: only who handles a recording waits for it. */
export const recordings = (): Promise<typeof import('../core/cluster-recording.js')> =>
  import('../core/cluster-recording.js');

/** A recording as `hatchery cluster record` writes it. Error: `request-invalid` when it cannot be read or is none. */
export async function recordingFile(path: string): Promise<ClusterRecording> {
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw refusal(path, (cause as Error).message, cause);
  }
  const { clusterRecording } = await recordings();
  const recording = clusterRecording.safeParse(value);
  if (!recording.success) throw refusal(path, 'it is no recording of a cluster', recording.error);
  return recording.data;
}

function refusal(path: string, why: string, cause: unknown): HatcheryError {
  return new HatcheryError('request-invalid', `Unable to read the recording ${path}: ${why}`, {
    hint: 'Give a file that hatchery cluster record --out wrote.',
    cause,
  });
}
