import { Column, Entity, PrimaryColumn } from 'typeorm';
import type { ErrorRecord } from '../../../core/errors.js';
import type { StepState } from '../../../core/states.js';

@Entity('steps')
export class StepEntity {
  @PrimaryColumn('uuid')
  id: string;
  @Column('uuid', { name: 'run_id' })
  runId: string;
  @Column('text')
  key: string;
  @Column('text')
  uses: string;
  @Column('text')
  state: StepState;
  @Column('int')
  rank: number;
  @Column('int')
  tries: number;
  @Column('int', { nullable: true })
  percent: number | null;
  @Column('jsonb', { nullable: true })
  error: ErrorRecord | null;
  @Column('timestamptz', { name: 'due_at', nullable: true })
  dueAt: Date | null;
  @Column('timestamptz', { name: 'first_claimed_at', nullable: true })
  startedAt: Date | null;
  @Column('int')
  epoch: number;
  /** Since when a worker holds it. */
  @Column('timestamptz', { name: 'claimed_at', nullable: true })
  claimedAt: Date | null;
  @Column('timestamptz', { name: 'finished_at', nullable: true })
  finishedAt: Date | null;
}
