import { Module, type DynamicModule } from '@nestjs/common';
import { APP_FILTER, APP_GUARD, APP_PIPE } from '@nestjs/core';
import { ApiModule } from './api/api.module.js';
import { BearerGuard } from './auth/bearer.guard.js';
import type { AppContext } from './context.js';
import { CoreModule } from './core.module.js';
import { ProblemFilter } from './errors/problem.filter.js';
import { validationPipe } from './errors/validation.pipe.js';
import { ProbesModule } from './probes.module.js';

/** One process of the product in the role that its settings give it. */
@Module({})
export class AppModule {
  /** `engine`: a global module that exports INTAKE, WAKE_UPS, HYPERVISORS and CLUSTER_STOPS and, in a role that works, runs the worker. */
  static for(context: AppContext, engine: DynamicModule): DynamicModule {
    const hasApi = context.settings.engine.role !== 'worker';
    return {
      module: AppModule,
      imports: [CoreModule.with(context), engine, ProbesModule, ...(hasApi ? [ApiModule] : [])],
      providers: [
        { provide: APP_PIPE, useFactory: validationPipe },
        { provide: APP_FILTER, useClass: ProblemFilter },
        { provide: APP_GUARD, useClass: BearerGuard },
      ],
    };
  }
}
