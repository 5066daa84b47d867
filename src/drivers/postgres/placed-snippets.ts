import { z } from 'zod';
import type { PlacedSnippets } from '../../ports/hypervisor.js';
import type { Database } from './database.js';

const placed = z
  .object({
    storage: z.string(),
    shared: z.boolean(),
    nodes: z.array(z.string()),
    offNodes: z.array(z.string()),
    names: z.array(z.string()),
  })
  .transform(({ nodes, offNodes, ...rest }) => ({ ...rest, nodes: [...nodes, ...offNodes] }));

/** Cloud-init files of machines that are not being undone, as the ledger has them: one entry for each time that some were put. */
export async function placedSnippets(
  database: Database,
  cluster: string,
): Promise<readonly PlacedSnippets[]> {
  const rows = await database.query<{ payload: unknown }>(
    `select payload from effects where kind = 'snippet-files' and state = 'confirmed' and payload ->> 'cluster' = $1 order by seq`,
    [cluster],
  );
  return rows.map(({ payload }) => placed.parse(payload));
}
