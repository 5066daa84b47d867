import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository, SelectQueryBuilder } from 'typeorm';
import { z } from 'zod';
import { HatcheryError } from '../../core/errors.js';
import type { MachineState } from '../../core/states.js';
import { MachineEntity } from '../../drivers/postgres/entities/machine.entity.js';
import type { Actor } from '../../engine/intake.js';
import { machineView, type MachineView } from '../dto/machines.dto.js';
import { decodeCursor, toPage, type Page } from '../dto/page.dto.js';

interface MachineQuery {
  readonly limit: number;
  readonly cursor?: string | undefined;
  readonly state?: MachineState | undefined;
}

@Injectable()
export class MachineReads {
  constructor(@InjectRepository(MachineEntity) private readonly machines: Repository<MachineEntity>) {}

  async view(id: string, actor: Actor): Promise<MachineView> {
    const machine = await this.visible(actor).andWhere('machine.id = :id', { id }).getOne();
    if (!machine)
      throw new HatcheryError(
        'not-found',
        `Unable to find machine ${id}: there is none of that id among yours`,
      );
    return machineView(machine);
  }

  /** Newest first. */
  async list(actor: Actor, query: MachineQuery): Promise<Page<MachineView>> {
    const after = decodeCursor(query.cursor, z.tuple([z.uuid()]));
    const select = this.visible(actor)
      .orderBy('machine.id', 'DESC')
      .limit(query.limit + 1);
    if (after) select.andWhere('machine.id < :after', { after: after[0] });
    if (query.state) select.andWhere('machine.state = :state', { state: query.state });
    else select.andWhere("machine.state <> 'deleted'");
    return toPage(await select.getMany(), query.limit, (row) => [row.id], machineView);
  }

  /** In the order of the roster. */
  async listOfBatch(batchId: string, query: MachineQuery): Promise<Page<MachineView>> {
    const after = decodeCursor(query.cursor, z.tuple([z.int32(), z.uuid()]));
    const select = this.all()
      .where('machine.batchId = :batchId', { batchId })
      .orderBy('machine.row')
      .addOrderBy('machine.id')
      .limit(query.limit + 1);
    if (after) select.andWhere('(machine.row, machine.id) > (:row, :id)', { row: after[0], id: after[1] });
    if (query.state) select.andWhere('machine.state = :state', { state: query.state });
    return toPage(await select.getMany(), query.limit, (row) => [row.row, row.id], machineView);
  }

  /** Every machine of a batch in the order of the roster: at most as many as a roster may have rows. */
  allOfBatch(batchId: string): Promise<MachineEntity[]> {
    return this.all()
      .where('machine.batchId = :batchId', { batchId })
      .orderBy('machine.row')
      .addOrderBy('machine.id')
      .getMany();
  }

  private all(): SelectQueryBuilder<MachineEntity> {
    return this.machines
      .createQueryBuilder('machine')
      .innerJoin('machine.batch', 'batch')
      .addSelect(['batch.id', 'batch.name']);
  }

  private visible(actor: Actor): SelectQueryBuilder<MachineEntity> {
    return actor.role === 'admin'
      ? this.all().where('true')
      : this.all().where('machine.ownerId = :me', { me: actor.userId });
  }
}
