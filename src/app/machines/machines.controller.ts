import { Controller, Delete, Get, Inject, Param, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import type { z } from 'zod';
import type { Intake } from '../../engine/intake.js';
import { Operation } from '../api/operation.js';
import { Me, type SignedIn } from '../auth/access.js';
import { ListMachinesQuery, MachinePage, MachineView } from '../dto/machines.dto.js';
import { id as anId } from '../dto/text.js';
import { INTAKE } from '../tokens.js';
import { MachineReads } from './machine-reads.js';

@ApiTags('machines')
@Controller('api/v1/machines')
export class MachinesController {
  constructor(
    private readonly reads: MachineReads,
    @Inject(INTAKE) private readonly intake: Intake,
  ) {}

  @Get()
  @Operation('listMachines', {
    summary: 'Machines, newest first',
    access: ['admin', 'teacher'],
    answer: MachinePage,
  })
  list(
    @Me() me: SignedIn,
    @Query({ schema: ListMachinesQuery }) query: z.infer<typeof ListMachinesQuery>,
  ): Promise<z.infer<typeof MachinePage>> {
    return this.reads.list(me, query);
  }

  @Get(':id')
  @Operation('getMachine', { summary: 'One machine', access: ['admin', 'teacher'], answer: MachineView })
  get(@Me() me: SignedIn, @Param('id', { schema: anId }) id: string): Promise<MachineView> {
    return this.reads.view(id, me);
  }

  @Delete(':id')
  @Operation('deleteMachine', {
    summary: 'Undoes everything that was made for a machine',
    access: ['admin', 'teacher'],
    status: 202,
    answer: MachineView,
  })
  async delete(@Me() me: SignedIn, @Param('id', { schema: anId }) id: string): Promise<MachineView> {
    await this.reads.view(id, me);
    await this.intake.deleteMachine(id, me);
    return this.reads.view(id, me);
  }
}
