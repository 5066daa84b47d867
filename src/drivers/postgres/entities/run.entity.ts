import { Column, Entity, JoinColumn, ManyToOne, PrimaryColumn, type Relation } from 'typeorm';
import type { ErrorRecord } from '../../../core/errors.js';
import type { RunState, Wanted } from '../../../core/states.js';
import { BatchEntity } from './batch.entity.js';
import { MachineEntity } from './machine.entity.js';

@Entity('runs')
export class RunEntity {
  @PrimaryColumn('uuid')
  id: string;
  @Column('uuid', { name: 'machine_id' })
  machineId: string;
  @ManyToOne(() => MachineEntity)
  @JoinColumn({ name: 'machine_id' })
  machine: Relation<MachineEntity>;
  @Column('uuid', { name: 'batch_id' })
  batchId: string;
  @ManyToOne(() => BatchEntity)
  @JoinColumn({ name: 'batch_id' })
  batch: Relation<BatchEntity>;
  @Column('text')
  state: RunState;
  @Column('text')
  wanted: Wanted;
  @Column('jsonb', { nullable: true })
  error: ErrorRecord | null;
  @Column('int')
  deaths: number;
  @Column('timestamptz', { name: 'created_at' })
  createdAt: Date;
  @Column('timestamptz', { name: 'started_at', nullable: true })
  startedAt: Date | null;
  @Column('timestamptz', { name: 'finished_at', nullable: true })
  finishedAt: Date | null;
}
