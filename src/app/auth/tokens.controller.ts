import { Body, Controller, Delete, Get, Param, Post, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { z } from 'zod';
import { Operation } from '../api/operation.js';
import { CreatedToken, CreateTokenRequest, TokenList, tokenView } from '../dto/auth.dto.js';
import { decodeCursor, ListQuery, toPage } from '../dto/page.dto.js';
import { id as anId } from '../dto/text.js';
import { Me, type SignedIn } from './access.js';
import { Accounts } from './accounts.js';

const DAY_MS = 86_400_000;

@ApiTags('sign-in')
@Controller('api/v1/tokens')
export class TokensController {
  constructor(private readonly accounts: Accounts) {}

  @Get()
  @Operation('listTokens', { summary: 'Your tokens', access: ['admin', 'teacher'], answer: TokenList })
  async list(
    @Me() me: SignedIn,
    @Query({ schema: ListQuery }) { limit, cursor }: z.infer<typeof ListQuery>,
  ): Promise<z.infer<typeof TokenList>> {
    const after = decodeCursor(cursor, z.tuple([z.uuid()]));
    const tokens = await this.accounts.listTokens(me.userId, limit + 1, after?.[0]);
    return toPage(tokens, limit, (token) => [token.id], tokenView);
  }

  @Post()
  @Operation('createToken', {
    summary: 'Makes a token for scripts; it is shown once',
    access: ['admin', 'teacher'],
    status: 201,
    answer: CreatedToken,
  })
  async create(
    @Me() me: SignedIn,
    @Body({ schema: CreateTokenRequest }) body: z.infer<typeof CreateTokenRequest>,
  ): Promise<z.infer<typeof CreatedToken>> {
    const lifeMs = body.expiresInDays === undefined ? undefined : body.expiresInDays * DAY_MS;
    const { token, entity } = await this.accounts.issueToken(me.userId, body.name, lifeMs);
    return { ...tokenView(entity), token };
  }

  @Delete(':id')
  @Operation('revokeToken', {
    summary: 'Ends one of your tokens at once',
    access: ['admin', 'teacher'],
    status: 204,
  })
  async revoke(@Me() me: SignedIn, @Param('id', { schema: anId }) id: string): Promise<void> {
    await this.accounts.revokeToken(me.userId, id);
  }
}
