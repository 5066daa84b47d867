import { createParamDecorator, SetMetadata, type ExecutionContext } from '@nestjs/common';
import type { Request } from 'express';
import { HatcheryError } from '../../core/errors.js';
import type { Actor } from '../../engine/intake.js';

export const ACCESS = 'hatchery:access';
export type Role = Actor['role'];
export type Access = 'public' | readonly Role[];

/** A route that everybody may call. */
export const Public = (): MethodDecorator & ClassDecorator => SetMetadata(ACCESS, 'public');
/** A route for signed-in people of these roles. A route without `Public` or `Roles` is refused to everybody. */
export const Roles = (...roles: Role[]): MethodDecorator & ClassDecorator => SetMetadata(ACCESS, roles);

/** Who asks, and the token they ask with. */
export interface SignedIn extends Actor {
  readonly tokenId: string;
}

export type SignedInRequest = Request & { user?: SignedIn };

/** The signed-in person of a request. */
export const Me = createParamDecorator((_data: unknown, context: ExecutionContext): SignedIn => {
  const { user } = context.switchToHttp().getRequest<SignedInRequest>();
  if (user === undefined)
    throw new HatcheryError('not-signed-in', 'Unable to answer the request: nobody is signed in');
  return user;
});
