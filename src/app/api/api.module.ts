import { BullBoardModule } from '@bull-board/nestjs';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { ExpressAdapter } from '@bull-board/express';
import { Module } from '@nestjs/common';
import { APP_PIPE } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import type { Cluster, Redis } from 'ioredis';
import { STEP_QUEUE } from '../../drivers/bullmq/bull-dispatch.js';
import { ENTITIES } from '../../drivers/postgres/entities/entities.js';
import { Accounts } from '../auth/accounts.js';
import { AdminController } from '../admin/admin.controller.js';
import { Doctor } from '../admin/doctor.js';
import { HeldReads } from '../admin/held-reads.js';
import { ReleasedReads } from '../admin/released-reads.js';
import { AuthController } from '../auth/auth.controller.js';
import { TokensController } from '../auth/tokens.controller.js';
import { UsersController } from '../auth/users.controller.js';
import { BatchReads } from '../batches/batch-reads.js';
import { ResultReads } from '../batches/result-reads.js';
import { BatchesController } from '../batches/batches.controller.js';
import { GuestReads } from '../clusters/guest-reads.js';
import { LimitsController } from '../clusters/limits.controller.js';
import { VmidsController } from '../clusters/vmids.controller.js';
import { ClustersController } from '../clusters/clusters.controller.js';
import type { AppContext } from '../context.js';
import { validationPipe } from '../errors/validation.pipe.js';
import { BatchProgressReads } from '../events/batch-progress.js';
import { EventHub } from '../events/event-hub.js';
import { EventLog } from '../events/event-log.js';
import { EventStream } from '../events/event-stream.js';
import { EventsController } from '../events/events.controller.js';
import { ExportController } from '../export/export.controller.js';
import { ExportReads } from '../export/export-reads.js';
import { MachineReads } from '../machines/machine-reads.js';
import { MachinesController } from '../machines/machines.controller.js';
import { PhoneHomeController } from '../machines/phone-home.controller.js';
import { boardAccess } from '../queues/board-access.js';
import { RemainingReads } from '../remaining/remaining-reads.js';
import { RunDetailReads } from '../runs/run-detail-reads.js';
import { RunReads } from '../runs/run-reads.js';
import { RunsController } from '../runs/runs.controller.js';
import { CONTEXT, REDIS } from '../tokens.js';

/** The HTTP API. Needs what the second group of tokens.ts names from the engine's global module. */
@Module({
  imports: [
    TypeOrmModule.forFeature(ENTITIES),
    BullBoardModule.forRootAsync({
      inject: [Accounts, REDIS, CONTEXT],
      useFactory: (accounts: Accounts, redis: Redis | Cluster, { stores }: AppContext) => ({
        route: '/queues',
        adapter: ExpressAdapter,
        middleware: boardAccess(accounts, redis, stores.redisPrefix),
        boardOptions: { uiConfig: { boardTitle: 'Hatchery' } },
      }),
    }),
    // Jobs are hints: changing them by hand changes nothing for good, so the board only shows.
    BullBoardModule.forFeature({ name: STEP_QUEUE, adapter: BullMQAdapter, options: { readOnlyMode: true } }),
  ],
  controllers: [
    AuthController,
    TokensController,
    UsersController,
    BatchesController,
    MachinesController,
    PhoneHomeController,
    RunsController,
    ClustersController,
    LimitsController,
    VmidsController,
    EventsController,
    ExportController,
    AdminController,
  ],
  providers: [
    { provide: APP_PIPE, useFactory: validationPipe },
    RemainingReads,
    BatchReads,
    ResultReads,
    MachineReads,
    RunReads,
    RunDetailReads,
    Doctor,
    GuestReads,
    HeldReads,
    ReleasedReads,
    EventLog,
    EventHub,
    EventStream,
    BatchProgressReads,
    ExportReads,
  ],
})
export class ApiModule {}
