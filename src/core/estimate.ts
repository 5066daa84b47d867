/**
 * Medians of one undisturbed step in seconds: clone, configure, resize and start as reported for Proxmox VE with Ceph RBD, the others assumed.
 * They only feed the estimate that people see before a batch; nothing waits by them.
 */
const STEP_MEDIAN_S = {
  reserve: 0.1,
  /** Linked clone: disk under the storage lock, cloud-init drive, task overhead. */
  linkedClone: 1.7,
  /** Full clone before its bytes are copied. */
  fullCloneBase: 1.7,
  allowMac: 1.5,
  configure: 0.4,
  resize: 0.8,
  start: 2.8,
  /** From start to an address told by the guest agent. */
  firstBoot: 25,
  register: 0.6,
} as const;

/** Copy rate of one storage, shared by its parallel copies. */
const COPY_GIB_PER_S = 0.2;

export interface EstimateRequest {
  readonly machines: number;
  readonly clone: 'linked' | 'full';
  readonly diskGiB: number;
  /** Nodes that get machines. */
  readonly nodes: number;
  /** Storages that get disks. */
  readonly storages: number;
  readonly limits: {
    readonly clonesPerStorage: number;
    readonly clonesPerNode: number;
    readonly startsPerNode: number;
  };
  readonly hasDhcp: boolean;
  readonly hasAccess: boolean;
  /** 1 on real systems; the simulated cluster multiplies every duration by it. */
  readonly timeScale?: number;
}

/**
 * Seconds until the last machine is ready: one machine's way through all steps, plus what the others wait at the narrowest step.
 * Whole seconds, at least 1 for a batch that makes something, 0 for none.
 */
export function estimateSeconds(request: EstimateRequest): number {
  if (request.machines === 0) return 0;
  const nodes = Math.max(1, request.nodes);
  const storages = Math.max(1, request.storages);
  const cloneWidth = Math.min(
    request.limits.clonesPerStorage * storages,
    request.limits.clonesPerNode * nodes,
  );
  const copyS = request.clone === 'full' ? request.diskGiB / COPY_GIB_PER_S : 0;
  const cloneS = (request.clone === 'full' ? STEP_MEDIAN_S.fullCloneBase : STEP_MEDIAN_S.linkedClone) + copyS;
  const allowS = request.hasDhcp ? STEP_MEDIAN_S.allowMac : 0;
  // Copies share the rate of their storage: more of them at once end no sooner.
  const perMachineS = [
    Math.max((cloneS - copyS) / cloneWidth, copyS / storages),
    (STEP_MEDIAN_S.configure + STEP_MEDIAN_S.resize) / (3 * nodes),
    STEP_MEDIAN_S.start / (request.limits.startsPerNode * nodes),
    allowS / 5,
  ];
  const oneMachineS =
    STEP_MEDIAN_S.reserve +
    Math.max(cloneS + STEP_MEDIAN_S.configure + STEP_MEDIAN_S.resize, allowS) +
    STEP_MEDIAN_S.start +
    STEP_MEDIAN_S.firstBoot +
    (request.hasAccess ? STEP_MEDIAN_S.register : 0);
  const seconds = oneMachineS + (request.machines - 1) * Math.max(...perMachineS);
  return Math.max(1, Math.ceil(seconds * (request.timeScale ?? 1)));
}
