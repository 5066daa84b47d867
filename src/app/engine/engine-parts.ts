import {
  CLUSTER_LIMITS,
  CLUSTER_PAUSES,
  CLUSTER_STOPS,
  HYPERVISORS,
  INTAKE,
  LOCKS,
  NODE_FILES,
  PHONE_HOME,
  REMAINING_TIMES,
  RUN_HANDLES,
  SERVICES,
  USE_OF,
  VMID_RESTS,
  WAKE_UPS,
  WORKERS,
} from '../tokens.js';
import type { Assembly } from './assemble.js';

/** What the engine gives to the rest of the application, and under which token. Whatever stands in its place gives the same. */
export const ENGINE_PARTS: ReadonlyMap<symbol, (assembly: Assembly) => unknown> = new Map<
  symbol,
  (assembly: Assembly) => unknown
>([
  [CLUSTER_LIMITS, ({ clusterLimits }) => clusterLimits],
  [CLUSTER_PAUSES, ({ clusterPauses }) => clusterPauses],
  [CLUSTER_STOPS, ({ parts }) => parts.stops],
  [HYPERVISORS, ({ hypervisors }) => hypervisors],
  [INTAKE, ({ intake }) => intake],
  [LOCKS, ({ locks }) => locks],
  [NODE_FILES, ({ nodeFiles }) => nodeFiles],
  [PHONE_HOME, ({ phoneHome }) => phoneHome],
  [REMAINING_TIMES, ({ remaining }) => remaining],
  [RUN_HANDLES, ({ runHandles }) => runHandles],
  [SERVICES, ({ services }) => services],
  [USE_OF, ({ useOf }) => useOf],
  [VMID_RESTS, ({ vmidRests }) => vmidRests],
  [WAKE_UPS, ({ wakeUps }) => wakeUps],
  [WORKERS, ({ workers }) => workers],
]);
