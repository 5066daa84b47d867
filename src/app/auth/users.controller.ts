import { Body, Controller, Get, Post } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import type { z } from 'zod';
import { Operation } from '../api/operation.js';
import { CreateUserRequest, UserList, userView, UserView } from '../dto/auth.dto.js';
import { Accounts } from './accounts.js';

@ApiTags('sign-in')
@Controller('api/v1/users')
export class UsersController {
  constructor(private readonly accounts: Accounts) {}

  @Get()
  @Operation('listUsers', { summary: 'All accounts', access: ['admin'], answer: UserList })
  async list(): Promise<z.infer<typeof UserList>> {
    return { items: (await this.accounts.listUsers()).map(userView), nextCursor: null };
  }

  @Post()
  @Operation('createUser', { summary: 'Makes an account', access: ['admin'], status: 201, answer: UserView })
  async create(
    @Body({ schema: CreateUserRequest }) body: z.infer<typeof CreateUserRequest>,
  ): Promise<z.infer<typeof UserView>> {
    return userView(await this.accounts.createUser(body.login, body.password, body.role));
  }
}
