import type { World } from '../world.js';
import { failure } from './wire.js';

/** Without quorum the cluster file system is read-only. */
export function needQuorum({ conditions }: World): void {
  if (conditions.quorumLost) throw failure('cluster not ready - no quorum?');
}
