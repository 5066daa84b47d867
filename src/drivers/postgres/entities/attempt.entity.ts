import { Column, Entity, PrimaryColumn } from 'typeorm';
import type { ErrorRecord } from '../../../core/errors.js';

@Entity('attempts')
export class AttemptEntity {
  @PrimaryColumn('uuid')
  id: string;
  @Column('uuid', { name: 'step_id' })
  stepId: string;
  @Column('int')
  epoch: number;
  @Column('text')
  kind: 'act' | 'undo';
  @Column('timestamptz', { name: 'started_at' })
  startedAt: Date;
  @Column('timestamptz', { name: 'ended_at', nullable: true })
  endedAt: Date | null;
  @Column('text', { nullable: true })
  outcome: string | null;
  @Column('jsonb', { nullable: true })
  error: ErrorRecord | null;
  @Column('jsonb', { nullable: true })
  warnings: readonly string[] | null;
}
