import { Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { HatcheryError } from '../../core/errors.js';
import { ACCESS, type Access, type SignedInRequest } from './access.js';
import { Accounts } from './accounts.js';
import { bearerToken } from './bearer-token.js';

/** Deny by default: only a route that says `Public` or `Roles` answers at all. */
@Injectable()
export class BearerGuard implements CanActivate {
  constructor(
    private readonly reflector: Reflector,
    private readonly accounts: Accounts,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const access = this.reflector.getAllAndOverride<Access | undefined>(ACCESS, [
      context.getHandler(),
      context.getClass(),
    ]);
    if (access === 'public') return true;
    if (access === undefined)
      throw new HatcheryError(
        'forbidden',
        'Unable to answer the request: this route names nobody who may call it',
      );
    const request = context.switchToHttp().getRequest<SignedInRequest>();
    const token = bearerToken(request);
    const user = token === undefined ? undefined : await this.accounts.byToken(token);
    if (!user)
      throw new HatcheryError('not-signed-in', 'Unable to answer the request: no valid token came with it', {
        hint: 'Sign in with: hatchery login',
      });
    if (!access.includes(user.role))
      throw new HatcheryError(
        'forbidden',
        `Unable to answer the request: it is for ${access.join(' or ')} accounts`,
        { hint: 'Ask an admin.' },
      );
    request.user = user;
    return true;
  }
}
