import { Column, Entity, JoinColumn, ManyToOne, PrimaryColumn, type Relation } from 'typeorm';
import { BlueprintVersionEntity } from './blueprint-version.entity.js';
import { UserEntity } from './user.entity.js';

@Entity('batches')
export class BatchEntity {
  @PrimaryColumn('uuid')
  id: string;
  @Column('text')
  name: string;
  @Column('uuid', { name: 'owner_id' })
  ownerId: string;
  @ManyToOne(() => UserEntity)
  @JoinColumn({ name: 'owner_id' })
  owner: Relation<UserEntity>;
  @ManyToOne(() => BlueprintVersionEntity)
  @JoinColumn({ name: 'blueprint_version_id' })
  blueprintVersion: Relation<BlueprintVersionEntity>;
  @Column('text')
  cluster: string;
  @Column('timestamptz', { name: 'created_at' })
  createdAt: Date;
  @Column('timestamptz', { name: 'settled_at', nullable: true })
  settledAt: Date | null;
  @Column('timestamptz', { name: 'deleted_at', nullable: true })
  deletedAt: Date | null;
}
