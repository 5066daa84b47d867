import {
  Inject,
  Module,
  type DynamicModule,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
} from '@nestjs/common';
import { Webhook } from '../../drivers/webhook/webhook.js';
import type { AppContext } from '../context.js';
import type { RemoteMetrics } from '../metrics/remote-metrics.js';
import {
  CLUSTER_LIMITS,
  CLUSTER_PAUSES,
  CLUSTER_STOPS,
  CONTEXT,
  HYPERVISORS,
  INTAKE,
  LOCKS,
  NODE_FILES,
  RUN_HANDLES,
  SERVICES,
  PHONE_HOME,
  REMAINING_TIMES,
  REMOTE_METRICS,
  USE_OF,
  VMID_RESTS,
  WAKE_UPS,
  WORKERS,
} from '../tokens.js';
import { assemble, type Assembly } from './assemble.js';

const ASSEMBLY = Symbol('Assembly');
const NOTIFY_TIMEOUT_MS = 10_000;

/** The engine in this process: the relay everywhere, a worker in the roles that work. */
@Module({})
export class EngineModule implements OnApplicationBootstrap, OnApplicationShutdown {
  private worker: { stop(): Promise<void> } | undefined;

  constructor(
    @Inject(ASSEMBLY) private readonly assembly: Assembly,
    @Inject(CONTEXT) private readonly context: AppContext,
  ) {}

  static create(): DynamicModule {
    return {
      module: EngineModule,
      global: true,
      providers: [
        { provide: ASSEMBLY, inject: [CONTEXT, REMOTE_METRICS], useFactory: assembleFor },
        { provide: INTAKE, inject: [ASSEMBLY], useFactory: (assembly: Assembly) => assembly.intake },
        { provide: RUN_HANDLES, inject: [ASSEMBLY], useFactory: (assembly: Assembly) => assembly.runHandles },
        { provide: PHONE_HOME, inject: [ASSEMBLY], useFactory: (assembly: Assembly) => assembly.phoneHome },
        { provide: WAKE_UPS, inject: [ASSEMBLY], useFactory: (assembly: Assembly) => assembly.wakeUps },
        {
          provide: HYPERVISORS,
          inject: [ASSEMBLY],
          useFactory: (assembly: Assembly) => assembly.hypervisors,
        },
        { provide: NODE_FILES, inject: [ASSEMBLY], useFactory: (assembly: Assembly) => assembly.nodeFiles },
        { provide: VMID_RESTS, inject: [ASSEMBLY], useFactory: (assembly: Assembly) => assembly.vmidRests },
        {
          provide: CLUSTER_LIMITS,
          inject: [ASSEMBLY],
          useFactory: (assembly: Assembly) => assembly.clusterLimits,
        },
        {
          provide: REMAINING_TIMES,
          inject: [ASSEMBLY],
          useFactory: (assembly: Assembly) => assembly.remaining,
        },
        { provide: USE_OF, inject: [ASSEMBLY], useFactory: (assembly: Assembly) => assembly.useOf },
        {
          provide: CLUSTER_PAUSES,
          inject: [ASSEMBLY],
          useFactory: (assembly: Assembly) => assembly.clusterPauses,
        },
        { provide: SERVICES, inject: [ASSEMBLY], useFactory: (assembly: Assembly) => assembly.services },
        { provide: WORKERS, inject: [ASSEMBLY], useFactory: (assembly: Assembly) => assembly.workers },
        { provide: LOCKS, inject: [ASSEMBLY], useFactory: (assembly: Assembly) => assembly.locks },
        {
          provide: CLUSTER_STOPS,
          inject: [ASSEMBLY],
          useFactory: (assembly: Assembly) => assembly.parts.stops,
        },
      ],
      exports: [
        CLUSTER_LIMITS,
        INTAKE,
        RUN_HANDLES,
        SERVICES,
        PHONE_HOME,
        REMAINING_TIMES,
        WAKE_UPS,
        WORKERS,
        HYPERVISORS,
        NODE_FILES,
        CLUSTER_PAUSES,
        CLUSTER_STOPS,
        LOCKS,
        USE_OF,
        VMID_RESTS,
      ],
    };
  }

  async onApplicationBootstrap(): Promise<void> {
    this.assembly.caretaker.start();
    const { role, workerConcurrency } = this.context.settings.engine;
    if (role === 'api') return;
    // A process that only works ends with its worker, as if it had been told to.
    const onDrained = (): void => void (role === 'worker' && process.kill(process.pid, 'SIGTERM'));
    this.worker = await this.assembly.startWorker(workerConcurrency, onDrained);
  }

  async onApplicationShutdown(): Promise<void> {
    // Each for itself: what one cannot finish must not keep the next from ending.
    const { log } = this.assembly.parts;
    for (const end of [
      () => this.worker?.stop(),
      () => this.assembly.caretaker.stop(),
      () => this.assembly.close(),
    ])
      await end()?.catch((error: unknown) => log.warn({ err: error }, 'a part did not end in good order'));
  }
}

async function assembleFor(context: AppContext, metrics: RemoteMetrics): Promise<Assembly> {
  const { settings, stores, logger } = context;
  return assemble({
    databaseUrl: stores.databaseUrl,
    redisUrl: stores.redisUrl,
    redisPrefix: stores.redisPrefix,
    deployment: context.deployment.id,
    secretKey: context.secretKey,
    site: context.site,
    publicUrl: settings.http.publicUrl,
    remoteTimeScale: settings.engine.remoteTimeScale,
    log: logger,
    observe: (system, op, seconds, outcome) => metrics.observe(system, op, seconds, outcome),
    webhook: new Webhook({ allowedHosts: settings.engine.notifyHosts, timeoutMs: NOTIFY_TIMEOUT_MS }),
  });
}
