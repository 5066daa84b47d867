import { Body, Controller, Inject, Ip, Post } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import type { Cluster, Redis } from 'ioredis';
import type { z } from 'zod';
import { HatcheryError } from '../../core/errors.js';
import type { PhoneHome } from '../../engine/phone-home.js';
import { Operation } from '../api/operation.js';
import type { AppContext } from '../context.js';
import { PhoneHomeRequest } from '../dto/machines.dto.js';
import { CONTEXT, PHONE_HOME, REDIS } from '../tokens.js';
import { PhoneHomeThrottle } from './phone-home-throttle.js';

/** For guests, not for people: the token in the body is all that they have. */
@ApiTags('machines')
@Controller('api/v1/phone-home')
export class PhoneHomeController {
  private readonly throttle: PhoneHomeThrottle;

  constructor(
    @Inject(PHONE_HOME) private readonly phoneHome: Pick<PhoneHome, 'take'>,
    @Inject(REDIS) redis: Redis | Cluster,
    @Inject(CONTEXT) context: AppContext,
  ) {
    this.throttle = new PhoneHomeThrottle(redis, context.stores.redisPrefix);
  }

  @Post()
  @Operation('phoneHome', {
    summary: 'A new machine tells its addresses, once, with the token that it was given',
    access: 'public',
    status: 204,
  })
  async call(
    @Body({ schema: PhoneHomeRequest }) body: z.infer<typeof PhoneHomeRequest>,
    @Ip() from: string,
  ): Promise<void> {
    await this.throttle.check(from);
    if (await this.phoneHome.take(body)) return;
    await this.throttle.refused(from);
    throw new HatcheryError('not-found', 'Unable to take the call: no machine waits for it');
  }
}
