import { createHash, randomBytes } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { In, IsNull, MoreThan, type Repository } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { HatcheryError } from '../../core/errors.js';
import { ApiTokenEntity } from '../../drivers/postgres/entities/api-token.entity.js';
import { UserEntity } from '../../drivers/postgres/entities/user.entity.js';
import type { Role, SignedIn } from './access.js';
import { hashPassword, isRightPassword } from './passwords.js';

const TOKEN = /^hat_[A-Za-z0-9_-]{43}$/;
const USED_EVERY_MS = 60_000;

export interface NewToken {
  readonly token: string;
  readonly entity: ApiTokenEntity;
}

/** Local accounts and their tokens. Rights are read anew with every request. */
@Injectable()
export class Accounts {
  constructor(
    @InjectRepository(UserEntity) private readonly users: Repository<UserEntity>,
    @InjectRepository(ApiTokenEntity) private readonly tokens: Repository<ApiTokenEntity>,
  ) {}

  /** The person a token stands for, if the token and the account are good right now. */
  async byToken(token: string): Promise<SignedIn | undefined> {
    if (!TOKEN.test(token)) return undefined;
    const [found] = await this.good('token.tokenHash = :hash', { hash: digest(token) });
    return found;
  }

  /** The same for tokens that were good before, by their ids: long answers ask again while they run. */
  async byTokenIds(tokenIds: readonly string[]): Promise<ReadonlyMap<string, SignedIn>> {
    const found = await this.good('token.id = any (:tokenIds)', { tokenIds: [...new Set(tokenIds)] });
    return new Map(found.map((one) => [one.tokenId, one]));
  }

  private async good(condition: string, values: object): Promise<SignedIn[]> {
    const found = await this.tokens
      .createQueryBuilder('token')
      .innerJoinAndSelect('token.user', 'user')
      .where(condition, values)
      .andWhere(
        'token.revokedAt is null and (token.expiresAt is null or token.expiresAt > now()) and user.disabledAt is null',
      )
      .getMany();
    const unnoted = found.filter(
      ({ lastUsedAt }) => Date.now() - (lastUsedAt?.getTime() ?? 0) > USED_EVERY_MS,
    );
    if (unnoted.length > 0)
      await this.tokens.update({ id: In(unnoted.map(({ id }) => id)) }, { lastUsedAt: () => 'now()' });
    return found.map(({ id, user }) => ({
      userId: user.id,
      login: user.login,
      role: user.role,
      tokenId: id,
    }));
  }

  async byPassword(login: string, password: string): Promise<UserEntity | undefined> {
    const user = await this.users
      .createQueryBuilder('u')
      .where('lower(u.login) = lower(:login)', { login })
      .getOne();
    const right = await isRightPassword(user?.disabledAt ? null : user?.passwordHash, password);
    return right ? (user ?? undefined) : undefined;
  }

  async issueToken(userId: string, name: string, lifeMs: number | undefined): Promise<NewToken> {
    const token = `hat_${randomBytes(32).toString('base64url')}`;
    const now = new Date();
    const entity = this.tokens.create({
      id: uuidv7(),
      userId,
      name,
      tokenHash: digest(token),
      createdAt: now,
      expiresAt: lifeMs === undefined ? null : new Date(now.getTime() + lifeMs),
      lastUsedAt: null,
      revokedAt: null,
    });
    await this.tokens.insert(entity);
    return { token, entity };
  }

  /** Those that still work, newest first, behind the token `after`. */
  listTokens(userId: string, limit: number, after?: string): Promise<ApiTokenEntity[]> {
    const query = this.tokens
      .createQueryBuilder('token')
      .where('token.userId = :userId and token.revokedAt is null', { userId })
      .andWhere('(token.expiresAt is null or token.expiresAt > now())')
      .orderBy('token.id', 'DESC')
      .limit(limit);
    if (after !== undefined) query.andWhere('token.id < :after', { after });
    return query.getMany();
  }

  /** Own tokens only: somebody else's is `not-found`. */
  async revokeToken(userId: string, tokenId: string): Promise<void> {
    const { affected } = await this.tokens.update(
      { id: tokenId, userId, revokedAt: IsNull() },
      { revokedAt: () => 'now()' },
    );
    if (!affected)
      throw new HatcheryError('not-found', `Unable to revoke token ${tokenId}: there is no such token`);
  }

  /** By login, behind the login `after`. */
  listUsers(limit = 200, after?: string): Promise<UserEntity[]> {
    return this.users.find({
      ...(after === undefined ? {} : { where: { login: MoreThan(after) } }),
      order: { login: 'ASC' },
      take: limit,
    });
  }

  async countUsers(): Promise<number> {
    return this.users.count();
  }

  /** Error: `name-taken`, also for a login that differs only by case. */
  async createUser(login: string, password: string, role: Role): Promise<UserEntity> {
    const made = await this.users
      .createQueryBuilder()
      .insert()
      .values({
        id: uuidv7(),
        login,
        role,
        passwordHash: await hashPassword(password),
        createdAt: new Date(),
        disabledAt: null,
      })
      .orIgnore()
      .returning('id')
      .execute();
    const [row] = made.raw as { id: string }[];
    if (!row)
      throw new HatcheryError('name-taken', `Unable to create user ${login}: the login is taken`, {
        hint: 'Choose another login.',
      });
    return this.users.findOneByOrFail({ id: row.id });
  }
}

const digest = (token: string): Buffer => createHash('sha256').update(token).digest();
