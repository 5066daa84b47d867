import { Column, Entity, PrimaryColumn } from 'typeorm';

@Entity('effects')
export class EffectEntity {
  @PrimaryColumn('uuid')
  id: string;
  @Column('bigint')
  seq: string;
  @Column('text')
  kind: string;
  @Column('text')
  system: string;
  @Column('text')
  key: string;
  @Column('boolean')
  shared: boolean;
  @Column('uuid', { name: 'step_id' })
  stepId: string;
  @Column('text')
  state: 'intended' | 'confirmed' | 'undoing' | 'undone';
  @Column('timestamptz', { name: 'intended_at' })
  intendedAt: Date;
  @Column('timestamptz', { name: 'confirmed_at', nullable: true })
  confirmedAt: Date | null;
  @Column('timestamptz', { name: 'undone_at', nullable: true })
  undoneAt: Date | null;
}
