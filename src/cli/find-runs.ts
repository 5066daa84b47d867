import type { Client } from '../client/client/index.js';
import { listRuns } from '../client/sdk.gen.js';
import type { ListRunsData, Run } from '../client/types.gen.js';
import { allItems, answer, PAGE } from './api.js';

type Filter = Pick<NonNullable<ListRunsData['query']>, 'batch' | 'machine' | 'code' | 'state'>;

/** All runs that match. */
export const findRuns = (api: Client, filter: Filter): Promise<Run[]> =>
  allItems((cursor) => answer(listRuns({ client: api, query: { ...filter, limit: PAGE, cursor } })));
