import { Inject, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common';
import { BullModule, getQueueToken } from '@nestjs/bullmq';
import { TypeOrmModule } from '@nestjs/typeorm';
import type { Queue } from 'bullmq';
import type { Cluster, Redis } from 'ioredis';
import { STEP_QUEUE } from '../drivers/bullmq/bull-dispatch.js';
import { ENTITIES } from '../drivers/postgres/entities/entities.js';
import { ListenedClient } from '../drivers/postgres/listened-client.js';
import { connectRedis } from '../drivers/redis/connect-redis.js';
import { Accounts } from './auth/accounts.js';
import type { AppContext } from './context.js';
import { Metrics, RemoteCallHistogram } from './metrics/metrics.js';
import { CONTEXT, REDIS, REMOTE_METRICS } from './tokens.js';

const READ_CONNECTIONS = 10;

/** What every role has: the context, the stores, accounts and metrics. */
@Module({})
export class CoreModule implements OnApplicationShutdown {
  constructor(
    @Inject(REDIS) private readonly redis: Redis | Cluster,
    @Inject(getQueueToken(STEP_QUEUE)) queue: Queue,
    @Inject(CONTEXT) { logger }: AppContext,
  ) {
    // It shares the connection, whose trouble is logged already; without a listener BullMQ prints every error whole.
    queue.on('error', (error) => logger.debug({ err: error }, 'the queue has trouble'));
  }

  static with(context: AppContext): DynamicModule {
    const { stores, logger } = context;
    const remote = new RemoteCallHistogram();
    return {
      module: CoreModule,
      global: true,
      imports: [
        TypeOrmModule.forRootAsync({
          useFactory: () => ({
            type: 'postgres',
            url: stores.databaseUrl,
            entities: ENTITIES,
            synchronize: false,
            retryAttempts: 1,
            logging: false,
            extra: { Client: ListenedClient, max: READ_CONNECTIONS, application_name: 'hatchery-reads' },
          }),
        }),
        TypeOrmModule.forFeature(ENTITIES),
        BullModule.forRootAsync({
          inject: [REDIS],
          useFactory: (redis: Redis | Cluster) => ({ connection: redis, prefix: stores.redisPrefix }),
        }),
        BullModule.registerQueue({ name: STEP_QUEUE }),
      ],
      providers: [
        { provide: CONTEXT, useValue: context },
        {
          provide: REDIS,
          useFactory: () =>
            connectRedis(stores.redisUrl, (error) =>
              logger.warn({ err: error }, 'the connection to Redis has trouble'),
            ),
        },
        { provide: RemoteCallHistogram, useValue: remote },
        { provide: REMOTE_METRICS, useExisting: RemoteCallHistogram },
        Accounts,
        Metrics,
      ],
      exports: [
        CONTEXT,
        REDIS,
        REMOTE_METRICS,
        RemoteCallHistogram,
        Accounts,
        Metrics,
        TypeOrmModule,
        BullModule,
      ],
    };
  }

  /** After everybody who uses it: modules are shut down in the reverse order of their imports. */
  async onApplicationShutdown(): Promise<void> {
    await this.redis.quit().catch(() => undefined);
    // Also what listens to the sentinels.
    this.redis.disconnect();
  }
}
