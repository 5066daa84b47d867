/** What modules ask for by name. CoreModule gives the first group everywhere; the engine's module gives the second, see `engine/engine-parts.ts`. */
export const CONTEXT = Symbol('AppContext');
export const REDIS = Symbol('Redis');
export const REMOTE_METRICS = Symbol('RemoteMetrics');

export const INTAKE = Symbol('Intake');
export const RUN_HANDLES = Symbol('RunHandles');
export const PHONE_HOME = Symbol('PhoneHome');
export const WAKE_UPS = Symbol('WakeUps');
export const HYPERVISORS = Symbol('Hypervisors');
export const NODE_FILES = Symbol('NodeFiles');
export const CLUSTER_STOPS = Symbol('ClusterStops');
export const CLUSTER_PAUSES = Symbol('ClusterPauses');
export const LOCKS = Symbol('Locks');
export const WORKERS = Symbol('Workers');
export const SERVICES = Symbol('CheckedServices');
export const VMID_RESTS = Symbol('VmidRests');
export const CLUSTER_LIMITS = Symbol('ClusterLimits');
export const USE_OF = Symbol('UseOf');
export const REMAINING_TIMES = Symbol('RemainingTimes');
