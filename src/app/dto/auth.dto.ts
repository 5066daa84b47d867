import { z } from 'zod';
import type { ApiTokenEntity } from '../../drivers/postgres/entities/api-token.entity.js';
import type { UserEntity } from '../../drivers/postgres/entities/user.entity.js';
import { plainText } from './text.js';

const role = z.enum(['admin', 'teacher']);
const password = z.string().min(1, 'write a password').max(1000);

export const LoginRequest = z
  .strictObject({ login: plainText(200), password })
  .meta({ id: 'LoginRequest', example: { login: 'admin', password: 'the password' } });

export const UserView = z
  .object({ id: z.uuid(), login: z.string(), role, createdAt: z.iso.datetime(), disabled: z.boolean() })
  .meta({ id: 'User' });
export const UserList = z
  .object({ items: z.array(UserView), nextCursor: z.string().nullable() })
  .meta({ id: 'UserList' });

export const Me = z.object({ id: z.uuid(), login: z.string(), role }).meta({ id: 'Me' });
export const LoginAnswer = z
  .object({ token: z.string(), expiresAt: z.iso.datetime(), user: Me })
  .meta({ id: 'LoginAnswer' });

export const CreateUserRequest = z
  .strictObject({
    login: z
      .string()
      .regex(
        /^[a-z0-9][a-z0-9._-]{0,63}$/,
        'write lower-case letters, digits, dots, hyphens and underscores, at most 64',
      ),
    password: z.string().min(8, 'write at least 8 characters').max(1000),
    role,
  })
  .meta({
    id: 'CreateUserRequest',
    example: { login: 'jane.doe', password: 'at least 8 characters', role: 'teacher' },
  });

export const CreateTokenRequest = z
  .strictObject({
    name: plainText(100),
    expiresInDays: z
      .number()
      .int()
      .min(1, 'write at least 1 day')
      .max(3650, 'write at most 3650 days')
      .optional(),
  })
  .meta({ id: 'CreateTokenRequest', example: { name: 'timetable script', expiresInDays: 90 } });

export const TokenView = z
  .object({
    id: z.uuid(),
    name: z.string(),
    createdAt: z.iso.datetime(),
    expiresAt: z.iso.datetime().nullable(),
    lastUsedAt: z.iso.datetime().nullable(),
  })
  .meta({ id: 'Token' });
export const TokenList = z
  .object({ items: z.array(TokenView), nextCursor: z.string().nullable() })
  .meta({ id: 'TokenList' });
export const CreatedToken = TokenView.extend({ token: z.string() }).meta({ id: 'CreatedToken' });

export const userView = (user: UserEntity): z.infer<typeof UserView> => ({
  id: user.id,
  login: user.login,
  role: user.role,
  createdAt: user.createdAt.toISOString(),
  disabled: user.disabledAt !== null,
});

export const tokenView = (token: ApiTokenEntity): z.infer<typeof TokenView> => ({
  id: token.id,
  name: token.name,
  createdAt: token.createdAt.toISOString(),
  expiresAt: token.expiresAt?.toISOString() ?? null,
  lastUsedAt: token.lastUsedAt?.toISOString() ?? null,
});
