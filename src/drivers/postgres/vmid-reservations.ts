import { HatcheryError } from '../../core/errors.js';
import type { Queries } from './database.js';

/**
 * Reserves the lowest free VMIDs of a cluster's range, one per machine, in the machines' order.
 * Free = in nobody's reservation, not resting, and not in `used` (what the cluster's inventory shows).
 * An advisory lock puts parallel requests in a row; the primary key would refuse a double anyhow.
 * Errors: `vmid-range-full` with what is free and what rests.
 */
export async function takeVmids(
  queries: Queries,
  cluster: string,
  range: { from: number; to: number },
  used: ReadonlySet<number>,
  machineIds: readonly string[],
): Promise<number[]> {
  await queries.query(`select pg_advisory_xact_lock(hashtextextended('vmid:' || $1, 0))`, [cluster]);
  await queries.query(`delete from reservations where kind = 'vmid' and scope = $1 and rest_until <= now()`, [
    cluster,
  ]);
  const rows = await queries.query<{ value: string }>(
    `insert into reservations (kind, scope, value, machine_id)
     select 'vmid', $1, free.vmid::text, wanted.machine
       from unnest($5::uuid[]) with ordinality as wanted (machine, place)
       join (select vmid, row_number() over (order by vmid) as place from
              (select vmid from generate_series($2::int, $3::int) as vmid
                where vmid <> all ($4::int[])
                  and not exists (select 1 from reservations r where r.kind = 'vmid' and r.scope = $1 and r.value = vmid::text)
                order by vmid limit cardinality($5::uuid[])) as first) as free using (place)
     returning value`,
    [
      cluster,
      range.from,
      range.to,
      [...used].filter((vmid) => vmid >= range.from && vmid <= range.to),
      machineIds,
    ],
  );
  if (rows.length === machineIds.length)
    return rows.map((row) => Number(row.value)).toSorted((a, b) => a - b);
  throw new HatcheryError(
    'vmid-range-full',
    `Unable to reserve ${machineIds.length} VMIDs on cluster ${cluster}: ${rows.length} are free between ${range.from} and ${range.to}`,
    {
      hint: 'Delete machines that are no longer needed, wait until released ids have rested, or widen vmids in the cluster’s file.',
    },
  );
}
