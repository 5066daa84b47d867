import { Column, Entity, PrimaryColumn } from 'typeorm';
import type { Blueprint } from '../../../core/definitions.js';

@Entity('blueprint_versions')
export class BlueprintVersionEntity {
  @PrimaryColumn('uuid')
  id: string;
  @Column('text')
  name: string;
  @Column('int')
  version: number;
  @Column('jsonb')
  definition: Blueprint;
}
