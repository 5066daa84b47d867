import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { In, type Repository, type SelectQueryBuilder } from 'typeorm';
import { z } from 'zod';
import { HatcheryError } from '../../core/errors.js';
import { batchState, MACHINE_STATES, type MachineState } from '../../core/states.js';
import { BatchEntity } from '../../drivers/postgres/entities/batch.entity.js';
import { MachineEntity } from '../../drivers/postgres/entities/machine.entity.js';
import type { Actor } from '../../engine/intake.js';
import type { ExpectedView } from '../dto/expected.dto.js';
import { RemainingReads } from '../remaining/remaining-reads.js';
import type { BatchView } from '../dto/batches.dto.js';
import { decodeCursor, toPage, type Page } from '../dto/page.dto.js';

type Counts = BatchView['counts'];
const isUuid = (text: string): boolean => z.uuid().safeParse(text).success;

/** Batches as people see them: own ones for teachers, all for admins; what is foreign is `not-found`. */
@Injectable()
export class BatchReads {
  constructor(
    @InjectRepository(BatchEntity) private readonly batches: Repository<BatchEntity>,
    @InjectRepository(MachineEntity) private readonly machines: Repository<MachineEntity>,
    private readonly remaining: RemainingReads,
  ) {}

  /** By id or name; a name means the live batch, or the last deleted one. */
  async find(idOrName: string, actor: Actor): Promise<BatchEntity> {
    const query = this.visible(actor);
    if (isUuid(idOrName)) query.andWhere('batch.id = :id', { id: idOrName });
    else query.andWhere('batch.name = :name', { name: idOrName });
    const batch = await query
      .orderBy('batch.deletedAt', 'DESC', 'NULLS FIRST')
      .addOrderBy('batch.id', 'DESC')
      .limit(1)
      .getOne();
    if (!batch)
      throw new HatcheryError(
        'not-found',
        `Unable to find batch ${idOrName}: there is none of that id or name among yours`,
        {
          hint: 'List yours with hatchery batch list (GET /api/v1/batches).',
        },
      );
    return batch;
  }

  async view(idOrName: string, actor: Actor): Promise<BatchView> {
    const batch = await this.find(idOrName, actor);
    return (await this.views([batch])).get(batch.id)!;
  }

  /** Newest first. Two statements whatever the number of batches, besides the remaining times. */
  async list(
    actor: Actor,
    query: { limit: number; cursor?: string | undefined; deleted: boolean },
  ): Promise<Page<BatchView>> {
    const after = decodeCursor(query.cursor, z.tuple([z.uuid()]));
    const select = this.visible(actor)
      .orderBy('batch.id', 'DESC')
      .limit(query.limit + 1);
    if (!query.deleted) select.andWhere('batch.deletedAt is null');
    if (after) select.andWhere('batch.id < :after', { after: after[0] });
    const rows = await select.getMany();
    const views = await this.views(rows);
    return toPage(
      rows,
      query.limit,
      (row) => [row.id],
      (row) => views.get(row.id)!,
    );
  }

  private async views(batches: readonly BatchEntity[]): Promise<ReadonlyMap<string, BatchView>> {
    const counts = await this.counts(batches.map((batch) => batch.id));
    const states = new Map(batches.map((batch) => [batch.id, stateOf(batch, counts.get(batch.id))]));
    const remaining = await this.remaining.ofBatches(
      batches.map(({ id, cluster }) => ({ id, cluster, isWorking: states.get(id) === 'working' })),
    );
    return new Map(
      batches.map((batch) => [
        batch.id,
        toView(batch, counts.get(batch.id), states.get(batch.id)!, remaining.get(batch.id)!),
      ]),
    );
  }

  async counts(batchIds: readonly string[]): Promise<ReadonlyMap<string, Counts>> {
    const found = new Map<string, Counts>();
    if (batchIds.length === 0) return found;
    const rows = await this.machines
      .createQueryBuilder('m')
      .select('m.batchId', 'batch')
      .addSelect('m.state', 'state')
      .addSelect('count(*)::int', 'count')
      .where({ batchId: In([...batchIds]) })
      .groupBy('m.batchId')
      .addGroupBy('m.state')
      .getRawMany<{ batch: string; state: MachineState; count: number }>();
    for (const { batch, state, count } of rows) {
      const counts = found.get(batch) ?? noMachines();
      counts[state] = count;
      counts.total += count;
      found.set(batch, counts);
    }
    return found;
  }

  private visible(actor: Actor): SelectQueryBuilder<BatchEntity> {
    const query = this.batches
      .createQueryBuilder('batch')
      .innerJoinAndSelect('batch.owner', 'owner')
      .innerJoin('batch.blueprintVersion', 'blueprint')
      .addSelect(['blueprint.id', 'blueprint.name', 'blueprint.version'])
      .where('true');
    if (actor.role !== 'admin') query.andWhere('batch.ownerId = :me', { me: actor.userId });
    return query;
  }
}

export const noMachines = (): Counts =>
  ({ total: 0, ...Object.fromEntries(MACHINE_STATES.map((state) => [state, 0])) }) as Counts;

const stateOf = (batch: BatchEntity, counts: Counts = noMachines()): BatchView['state'] =>
  batch.deletedAt === null ? batchState(counts) : 'deleted';

function toView(
  batch: BatchEntity,
  counts: Counts = noMachines(),
  state: BatchView['state'],
  expected: ExpectedView,
): BatchView {
  return {
    id: batch.id,
    name: batch.name,
    owner: batch.owner.login,
    blueprint: { name: batch.blueprintVersion.name, version: batch.blueprintVersion.version },
    cluster: batch.cluster,
    state,
    counts,
    ...expected,
    createdAt: batch.createdAt.toISOString(),
    settledAt: batch.settledAt?.toISOString() ?? null,
    deletedAt: batch.deletedAt?.toISOString() ?? null,
  };
}
