import type { Client } from '../client/client/index.js';
import { getMachine, listMachines } from '../client/sdk.gen.js';
import type { Machine } from '../client/types.gen.js';
import { HatcheryError } from '../core/errors.js';
import { allItems, answer, PAGE } from './api.js';

const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** A machine by id, or the one that is not deleted by its name. Error: `not-found`; `request-invalid` when several have the name. */
export async function findMachine(api: Client, nameOrId: string): Promise<Machine> {
  if (ID.test(nameOrId)) return answer(getMachine({ client: api, path: { id: nameOrId } }));
  const machines = await allItems((cursor) =>
    answer(listMachines({ client: api, query: { limit: PAGE, cursor } })),
  );
  const [found, ...others] = machines.filter(({ name, state }) => name === nameOrId && state !== 'deleted');
  if (found === undefined)
    throw new HatcheryError(
      'not-found',
      `Unable to find the machine ${nameOrId}: no machine that you may see has this name`,
      {
        hint: 'List them with hatchery machine list.',
      },
    );
  if (others.length === 0) return found;
  throw new HatcheryError(
    'request-invalid',
    `Unable to find the machine ${nameOrId}: ${others.length + 1} have this name`,
    {
      hint: `Give the id of one: ${[found, ...others].map(({ id, batch }) => `${id} (batch ${batch.name})`).join(', ')}`,
    },
  );
}
