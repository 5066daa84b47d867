import { Inject, Injectable } from '@nestjs/common';
import type { z } from 'zod';
import { batchResults, type ResultFacts, type ResultItem } from '../../core/results.js';
import type { BatchEntity } from '../../drivers/postgres/entities/batch.entity.js';
import type { MachineEntity } from '../../drivers/postgres/entities/machine.entity.js';
import type { Actor } from '../../engine/intake.js';
import type { ClusterStops } from '../../ports/cluster-stops.js';
import { CLUSTER_STOPS } from '../tokens.js';
import type { ResultsView } from '../dto/batches.dto.js';
import { MachineReads } from '../machines/machine-reads.js';
import { RunReads } from '../runs/run-reads.js';
import { noMachines } from './batch-reads.js';

type Results = Omit<z.infer<typeof ResultsView>, 'items'> & { items: ResultItem[] };

@Injectable()
export class ResultReads {
  constructor(
    private readonly machines: MachineReads,
    private readonly runs: RunReads,
    @Inject(CLUSTER_STOPS) private readonly stops: ClusterStops,
  ) {}

  /** Three statements whatever the number of machines. */
  async of(batch: BatchEntity, { role }: Actor): Promise<Results> {
    const [machines, runs, stops] = await Promise.all([
      this.machines.allOfBatch(batch.id),
      this.runs.lastOfBatch(batch.id),
      this.stops.of(batch.cluster),
    ]);
    const results = batchResults(
      batch.name,
      machines.map((machine) => facts(machine, runs.get(machine.id))),
      role,
      stops,
    );
    return {
      batch: results.batch,
      counts: { ...noMachines(), ...results.counts },
      items: [...results.items],
      causes: [...results.causes],
    };
  }
}

const facts = (machine: MachineEntity, runId: string | undefined): ResultFacts => ({
  login: machine.login,
  lastName: machine.lastName,
  firstName: machine.firstName,
  ...(machine.email === null ? {} : { email: machine.email }),
  ...(machine.groupName === null ? {} : { group: machine.groupName }),
  machine: machine.name,
  vmid: machine.vmid,
  node: machine.node,
  ...(machine.address === null ? {} : { address: machine.address }),
  ...(machine.link === null ? {} : { link: machine.link }),
  state: machine.state,
  ...(machine.error === null ? {} : { code: machine.error.code, reason: machine.error.message }),
  ...(runId === undefined ? {} : { runId }),
});
