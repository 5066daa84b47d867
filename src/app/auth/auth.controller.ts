import { Body, Controller, Get, Inject, Ip, Post } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import type { Cluster, Redis } from 'ioredis';
import type { z } from 'zod';
import { HatcheryError } from '../../core/errors.js';
import { Operation } from '../api/operation.js';
import type { AppContext } from '../context.js';
import { LoginAnswer, LoginRequest, Me as MeView } from '../dto/auth.dto.js';
import { CONTEXT, REDIS } from '../tokens.js';
import { Me, type SignedIn } from './access.js';
import { Accounts } from './accounts.js';
import { LoginThrottle } from './login-throttle.js';

const SESSION_MS = 12 * 3_600_000;

@ApiTags('sign-in')
@Controller('api/v1/auth')
export class AuthController {
  private readonly throttle: LoginThrottle;

  constructor(
    private readonly accounts: Accounts,
    @Inject(REDIS) redis: Redis | Cluster,
    @Inject(CONTEXT) context: AppContext,
  ) {
    this.throttle = new LoginThrottle(redis, context.stores.redisPrefix);
  }

  @Post('login')
  @Operation('login', {
    summary: 'Gives a token for a login and password',
    access: 'public',
    answer: LoginAnswer,
  })
  async login(
    @Body({ schema: LoginRequest }) body: z.infer<typeof LoginRequest>,
    @Ip() address: string,
  ): Promise<z.infer<typeof LoginAnswer>> {
    await this.throttle.count(body.login, address);
    const user = await this.accounts.byPassword(body.login, body.password);
    if (!user)
      throw new HatcheryError('not-signed-in', 'Unable to sign in: login or password is wrong', {
        hint: 'Check both and try again.',
      });
    await this.throttle.forgive(body.login, address);
    const { token, entity } = await this.accounts.issueToken(user.id, 'login', SESSION_MS);
    return {
      token,
      expiresAt: (entity.expiresAt ?? entity.createdAt).toISOString(),
      user: { id: user.id, login: user.login, role: user.role },
    };
  }

  @Post('logout')
  @Operation('logout', {
    summary: 'Revokes the token of this request',
    access: ['admin', 'teacher'],
    status: 204,
  })
  async logout(@Me() me: SignedIn): Promise<void> {
    await this.accounts.revokeToken(me.userId, me.tokenId);
  }

  @Get('me')
  @Operation('whoAmI', {
    summary: 'Who the token of this request stands for',
    access: ['admin', 'teacher'],
    answer: MeView,
  })
  whoAmI(@Me() me: SignedIn): z.infer<typeof MeView> {
    return { id: me.userId, login: me.login, role: me.role };
  }
}
