import { Module, type DynamicModule } from '@nestjs/common';
import { APP_FILTER, APP_GUARD } from '@nestjs/core';
import { BearerGuard } from './auth/bearer.guard.js';
import type { AppContext } from './context.js';
import { CoreModule } from './core.module.js';
import { ProblemFilter } from './errors/problem.filter.js';
import { ProbesModule } from './probes.module.js';

/** One process of the product in the role that its settings give it. */
@Module({})
export class AppModule {
  /** `engine`: a global module that exports INTAKE, WAKE_UPS, HYPERVISORS and CLUSTER_STOPS and, in a role that works, runs the worker. */
  static async for(context: AppContext, engine: DynamicModule): Promise<DynamicModule> {
    // A worker starts in two thirds of the time without the API's code.
    const api =
      context.settings.engine.role === 'worker' ? [] : [(await import('./api/api.module.js')).ApiModule];
    return {
      module: AppModule,
      imports: [CoreModule.with(context), engine, ProbesModule, ...api],
      providers: [
        { provide: APP_FILTER, useClass: ProblemFilter },
        { provide: APP_GUARD, useClass: BearerGuard },
      ],
    };
  }
}
