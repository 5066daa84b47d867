import { Inject, Injectable } from '@nestjs/common';
import type { RemainingTimes } from '../../engine/remaining-times.js';
import { expectedView, type ExpectedView } from '../dto/expected.dto.js';
import { REMAINING_TIMES } from '../tokens.js';

interface AtWork {
  readonly id: string;
  readonly cluster: string;
  /** Only what is at work has a time at which it is ready. */
  readonly isWorking: boolean;
}

/** Remaining times as people see them; computed once per cluster, whatever the number of machines. */
@Injectable()
export class RemainingReads {
  constructor(@Inject(REMAINING_TIMES) private readonly times: Pick<RemainingTimes, 'of'>) {}

  ofBatches(batches: readonly AtWork[]): Promise<ReadonlyMap<string, ExpectedView>> {
    return this.read(
      batches.map((one) => ({ ...one, batchId: one.id })),
      'batches',
    );
  }

  ofMachines(
    machines: readonly (AtWork & { readonly batchId: string })[],
  ): Promise<ReadonlyMap<string, ExpectedView>> {
    return this.read(machines, 'machines');
  }

  private async read(
    wanted: readonly (AtWork & { readonly batchId: string })[],
    what: 'batches' | 'machines',
  ): Promise<ReadonlyMap<string, ExpectedView>> {
    const found = new Map(wanted.map(({ id }) => [id, expectedView(undefined)]));
    const working = wanted.filter(({ isWorking }) => isWorking);
    for (const cluster of new Set(working.map((one) => one.cluster))) {
      const own = working.filter((one) => one.cluster === cluster);
      const times = await this.times.of(cluster, [...new Set(own.map(({ batchId }) => batchId))]);
      for (const { id } of own) found.set(id, expectedView(times[what].get(id)));
    }
    return found;
  }
}
