import { ApiTokenEntity } from './api-token.entity.js';
import { BatchEntity } from './batch.entity.js';
import { BlueprintVersionEntity } from './blueprint-version.entity.js';
import { MachineEntity } from './machine.entity.js';
import { RunEntity } from './run.entity.js';
import { UserEntity } from './user.entity.js';

/** Every table that the API reads through TypeORM; the tables themselves are made by migrations/ only. */
export const ENTITIES = [
  ApiTokenEntity,
  BatchEntity,
  BlueprintVersionEntity,
  MachineEntity,
  RunEntity,
  UserEntity,
];
