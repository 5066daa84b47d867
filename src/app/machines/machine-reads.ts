import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository, SelectQueryBuilder } from 'typeorm';
import { z } from 'zod';
import { HatcheryError } from '../../core/errors.js';
import type { MachineState } from '../../core/states.js';
import { MachineEntity } from '../../drivers/postgres/entities/machine.entity.js';
import type { Actor } from '../../engine/intake.js';
import type { ExpectedView } from '../dto/expected.dto.js';
import { machineView, type MachineView } from '../dto/machines.dto.js';
import { RemainingReads } from '../remaining/remaining-reads.js';
import { decodeCursor, toPage, type Page } from '../dto/page.dto.js';

interface MachineQuery {
  readonly limit: number;
  readonly cursor?: string | undefined;
  readonly state?: MachineState | undefined;
}

@Injectable()
export class MachineReads {
  constructor(
    @InjectRepository(MachineEntity) private readonly machines: Repository<MachineEntity>,
    private readonly remaining: RemainingReads,
  ) {}

  async view(id: string, actor: Actor): Promise<MachineView> {
    const machine = await this.visible(actor).andWhere('machine.id = :id', { id }).getOne();
    if (!machine)
      throw new HatcheryError(
        'not-found',
        `Unable to find machine ${id}: there is none of that id among yours`,
      );
    return machineView(machine, (await this.expected([machine])).get(id)!);
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
    return this.page(await select.getMany(), query.limit, (row) => [row.id]);
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
    return this.page(await select.getMany(), query.limit, (row) => [row.row, row.id]);
  }

  /** Every machine of a batch in the order of the roster: at most as many as a roster may have rows. */
  allOfBatch(batchId: string): Promise<MachineEntity[]> {
    return this.all()
      .where('machine.batchId = :batchId', { batchId })
      .orderBy('machine.row')
      .addOrderBy('machine.id')
      .getMany();
  }

  private async page(
    rows: MachineEntity[],
    limit: number,
    key: (row: MachineEntity) => readonly (string | number)[],
  ): Promise<Page<MachineView>> {
    const expected = await this.expected(rows);
    return toPage(rows, limit, key, (row) => machineView(row, expected.get(row.id)!));
  }

  private expected(machines: readonly MachineEntity[]): Promise<ReadonlyMap<string, ExpectedView>> {
    return this.remaining.ofMachines(
      machines.map(({ id, cluster, batch, state }) => ({
        id,
        cluster,
        batchId: batch.id,
        isWorking: state === 'reserved' || state === 'creating',
      })),
    );
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
