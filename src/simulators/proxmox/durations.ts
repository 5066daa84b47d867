import type { SimulatorContext } from '../context.js';
import type { WorldStorage } from '../world.js';

/** Median and 95th percentile in simulated milliseconds. */
const MODEL = {
  read: [15, 60],
  'protected-read': [30, 150],
  'storage-content': [150, 450],
  fork: [150, 600],
  'config-write': [120, 500],
  agent: [50, 300],
  proxied: [15, 20],
  'cluster-write': [20, 100],
  'clone-step': [250, 600],
  'container-setup': [1_300, 3_500],
  'container-network': [3_000, 6_000],
  'make-file-system': [500, 1_500],
  start: [2_500, 8_000],
  'cloud-init-iso': [300, 600],
  'cloud-init': [2_000, 5_000],
  shutdown: [8_000, 24_000],
  stop: [1_000, 3_000],
  destroy: [1_000, 2_500],
  resize: [500, 1_500],
  snapshot: [1_500, 4_500],
  rollback: [2_000, 6_000],
  migrate: [3_000, 9_000],
} as const;
type DurationKind = keyof typeof MODEL;

/** What the durations of a world follow from. */
type DrawContext = Pick<SimulatorContext, 'random' | 'world'>;

/** Simulated milliseconds (median) of work under the storage lock: linked clone of a disk, new cloud-init drive, removal; and of unpacking a container's archive. */
const STORAGE_MODEL = {
  rbd: { link: 700, cloudInit: 500, free: 100, unpack: 12_000, copyMiBps: 200 },
  lvmthin: { link: 400, cloudInit: 300, free: 100, unpack: 8_000, copyMiBps: 500 },
  lvm: { link: 400, cloudInit: 300, free: 100, unpack: 8_000, copyMiBps: 500 },
  zfspool: { link: 300, cloudInit: 200, free: 100, unpack: 8_000, copyMiBps: 500 },
  nfs: { link: 500, cloudInit: 200, free: 100, unpack: 12_000, copyMiBps: 100 },
  cifs: { link: 500, cloudInit: 200, free: 100, unpack: 12_000, copyMiBps: 100 },
  cephfs: { link: 500, cloudInit: 200, free: 100, unpack: 12_000, copyMiBps: 200 },
  dir: { link: 500, cloudInit: 200, free: 100, unpack: 8_000, copyMiBps: 250 },
} as const;

/** One draw of how long something takes; the same seed, kind and key give the same series. */
export function drawMs(context: DrawContext, kind: DurationKind, key: string | number): number {
  const [median, p95] = MODEL[kind];
  return context.random.stream(kind, key).logNormal(median, p95);
}

/** From the start of a guest until its agent answers. */
export function drawBootMs(context: DrawContext, vmid: number): number {
  const { medianMs, p95Ms } = context.world.boot;
  return context.random.stream('agent-up', vmid).logNormal(medianMs, p95Ms);
}

/** Half of what a container's first boot does. */
export function drawHalfFirstBootMs(context: DrawContext, vmid: number): number {
  const { medianMs, p95Ms } = context.world.firstBoot;
  return context.random.stream('first-boot', vmid).logNormal(medianMs, p95Ms) / 2;
}

export function drawStorageMs(
  context: DrawContext,
  storage: WorldStorage,
  step: 'link' | 'cloudInit' | 'free' | 'unpack',
  key: string | number,
): number {
  const median = STORAGE_MODEL[storage.type][step];
  const spread = step === 'unpack' ? 2 : 3;
  return context.random.stream('storage', storage.id, step, key).logNormal(median, median * spread);
}

/** Of one copy that runs alone. */
export function copyMiBps(storage: WorldStorage): number {
  return STORAGE_MODEL[storage.type].copyMiBps;
}
