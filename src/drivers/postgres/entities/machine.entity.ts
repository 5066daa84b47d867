import { Column, Entity, JoinColumn, ManyToOne, PrimaryColumn, type Relation } from 'typeorm';
import type { ErrorRecord } from '../../../core/errors.js';
import type { MachineState } from '../../../core/states.js';
import { BatchEntity } from './batch.entity.js';

@Entity('machines')
export class MachineEntity {
  @PrimaryColumn('uuid')
  id: string;
  @Column('uuid', { name: 'batch_id' })
  batchId: string;
  @ManyToOne(() => BatchEntity)
  @JoinColumn({ name: 'batch_id' })
  batch: Relation<BatchEntity>;
  @Column('uuid', { name: 'owner_id' })
  ownerId: string;
  @Column('int')
  row: number;
  @Column('text')
  login: string;
  @Column('text', { name: 'last_name' })
  lastName: string;
  @Column('text', { name: 'first_name' })
  firstName: string;
  @Column('text', { nullable: true })
  email: string | null;
  @Column('text', { name: 'group_name', nullable: true })
  groupName: string | null;
  @Column('text')
  name: string;
  @Column('text')
  cluster: string;
  @Column('int')
  vmid: number;
  @Column('text')
  mac: string;
  @Column('text')
  node: string;
  @Column('text', { nullable: true })
  address: string | null;
  @Column('text', { nullable: true })
  link: string | null;
  @Column('text')
  state: MachineState;
  @Column('jsonb', { nullable: true })
  error: ErrorRecord | null;
  @Column('timestamptz', { name: 'created_at' })
  createdAt: Date;
  @Column('timestamptz', { name: 'ready_at', nullable: true })
  readyAt: Date | null;
  @Column('timestamptz', { name: 'deleted_at', nullable: true })
  deletedAt: Date | null;
}
