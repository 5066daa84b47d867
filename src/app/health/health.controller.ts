import { Controller, Get, Inject, Res, ServiceUnavailableException } from '@nestjs/common';
import { HealthCheckService, HealthIndicatorService, TypeOrmHealthIndicator } from '@nestjs/terminus';
import type { Response } from 'express';
import type { Cluster, Redis } from 'ioredis';
import { Public } from '../auth/access.js';
import type { AppContext } from '../context.js';
import { CONTEXT, REDIS } from '../tokens.js';

const PATIENCE_MS = 2000;

@Controller('health')
@Public()
export class HealthController {
  constructor(
    private readonly health: HealthCheckService,
    private readonly postgres: TypeOrmHealthIndicator,
    private readonly indicators: HealthIndicatorService,
    @Inject(REDIS) private readonly redis: Redis | Cluster,
    @Inject(CONTEXT) private readonly context: AppContext,
  ) {}

  /** The process answers; says nothing of the stores, so that an orchestrator does not restart it for their sake. */
  @Get('live')
  live(): { status: 'ok' } {
    return { status: 'ok' };
  }

  /** Both stores answer. */
  @Get('ready')
  async ready(@Res({ passthrough: true }) response: Response): Promise<object> {
    try {
      const { status, details } = await this.health.check([
        () => this.postgres.pingCheck('postgres', { timeout: PATIENCE_MS }),
        () => this.askRedis(),
      ]);
      return { status, details };
    } catch (error) {
      if (!(error instanceof ServiceUnavailableException)) throw error;
      response.status(503);
      return { status: 'error', details: nameStates(error.getResponse()) };
    }
  }

  private async askRedis() {
    const indicator = this.indicators.check('redis');
    const gone = AbortSignal.timeout(PATIENCE_MS);
    const late = new Promise<'late'>((resolve) =>
      gone.addEventListener('abort', () => resolve('late'), { once: true }),
    );
    // A key of ours instead of PING: any node of a cluster answers that, also when nobody serves our keys.
    const answer = await Promise.race([
      this.redis.exists(`${this.context.stores.redisPrefix}:locks`).catch(() => 'failed'),
      late,
    ]);
    return typeof answer === 'number' ? indicator.up() : indicator.down();
  }
}

/** Up or down only: messages of the drivers name hosts and users. */
function nameStates(response: string | object): Record<string, { status: string }> {
  const details =
    typeof response === 'object' && 'details' in response
      ? (response.details as Record<string, { status: string }>)
      : {};
  return Object.fromEntries(Object.entries(details).map(([name, { status }]) => [name, { status }]));
}
