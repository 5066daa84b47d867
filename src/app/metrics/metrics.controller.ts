import { Controller, Get, Req, Res } from '@nestjs/common';
import type { Request, Response } from 'express';
import { HatcheryError } from '../../core/errors.js';
import { Public } from '../auth/access.js';
import { Accounts } from '../auth/accounts.js';
import { bearerToken } from '../auth/bearer-token.js';
import { Metrics } from './metrics.js';

const LOOPBACK = /^(::1|(::ffff:)?127\.[0-9.]+)$/;

@Controller('metrics')
@Public()
export class MetricsController {
  constructor(
    private readonly metrics: Metrics,
    private readonly accounts: Accounts,
  ) {}

  /** For a scraper on the same machine that brings no token, and for admins. */
  @Get()
  async read(@Req() request: Request, @Res({ passthrough: true }) response: Response): Promise<string> {
    if (request.headers.authorization !== undefined || !isLocal(request)) await this.requireAdmin(request);
    response.type(this.metrics.registry.contentType);
    return this.metrics.registry.metrics();
  }

  private async requireAdmin(request: Request): Promise<void> {
    const token = bearerToken(request);
    const user = token === undefined ? undefined : await this.accounts.byToken(token);
    if (!user)
      throw new HatcheryError(
        'not-signed-in',
        'Unable to show the metrics: no valid token came with the request',
      );
    if (user.role !== 'admin')
      throw new HatcheryError('forbidden', 'Unable to show the metrics: they are for admins');
  }
}

/** A reverse proxy on this machine has a loopback address too; it says for whom it asks. */
function isLocal(request: Request): boolean {
  const isForwarded =
    request.headers['x-forwarded-for'] !== undefined ||
    request.headers.forwarded !== undefined ||
    request.headers.via !== undefined;
  return !isForwarded && LOOPBACK.test(request.socket.remoteAddress ?? '');
}
