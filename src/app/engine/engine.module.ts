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
import { CONTEXT, REMOTE_METRICS } from '../tokens.js';
import { assemble, type Assembly } from './assemble.js';
import { ENGINE_PARTS } from './engine-parts.js';

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
        ...[...ENGINE_PARTS].map(([provide, useFactory]) => ({ provide, inject: [ASSEMBLY], useFactory })),
      ],
      exports: [...ENGINE_PARTS.keys()],
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
