import { Body, Controller, Get, Post, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { z } from 'zod';
import { Operation } from '../api/operation.js';
import { CreateUserRequest, UserList, userView, UserView } from '../dto/auth.dto.js';
import { decodeCursor, ListQuery, toPage } from '../dto/page.dto.js';
import { plainText } from '../dto/text.js';
import { Accounts } from './accounts.js';

@ApiTags('sign-in')
@Controller('api/v1/users')
export class UsersController {
  constructor(private readonly accounts: Accounts) {}

  @Get()
  @Operation('listUsers', { summary: 'All accounts', access: ['admin'], answer: UserList })
  async list(
    @Query({ schema: ListQuery }) { limit, cursor }: z.infer<typeof ListQuery>,
  ): Promise<z.infer<typeof UserList>> {
    const after = decodeCursor(cursor, z.tuple([plainText(100)]));
    const users = await this.accounts.listUsers(limit + 1, after?.[0]);
    return toPage(users, limit, (user) => [user.login], userView);
  }

  @Post()
  @Operation('createUser', { summary: 'Makes an account', access: ['admin'], status: 201, answer: UserView })
  async create(
    @Body({ schema: CreateUserRequest }) body: z.infer<typeof CreateUserRequest>,
  ): Promise<z.infer<typeof UserView>> {
    return userView(await this.accounts.createUser(body.login, body.password, body.role));
  }
}
