import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { z } from 'zod';
import type { ClusterDefinition } from '../../core/definitions.js';
import { HatcheryError } from '../../core/errors.js';
import { isPoolOfOthers } from '../../core/foreign-deployment.js';
import type { Mark } from '../../core/mark.js';
import { plainCall } from '../../ports/call.js';
import type { GuestInfo, Hypervisors, IntendedUse } from '../../ports/hypervisor.js';
import type { AppContext } from '../context.js';
import { decodeCursor, toPage, type Page } from '../dto/page.dto.js';
import type { UncountedGuestView } from '../dto/site.dto.js';
import { CONTEXT, HYPERVISORS, USE_OF } from '../tokens.js';

type View = z.infer<typeof UncountedGuestView>;

const READ_MS = 60_000;

interface Known {
  readonly id: string;
  readonly run: string;
  readonly name: string;
  readonly isReleased: boolean;
}

/** Guests in our range or pool that no machine of ours counts on, each with the mark that it carries. */
@Injectable()
export class GuestReads {
  constructor(
    @InjectDataSource() private readonly source: DataSource,
    @Inject(CONTEXT) private readonly context: AppContext,
    @Inject(HYPERVISORS) private readonly hypervisors: Hypervisors,
    @Inject(USE_OF) private readonly useOf: (cluster: string) => Promise<IntendedUse>,
  ) {}

  /** By VMID. One read of the cluster, and one of each guest on the page. */
  async uncounted(
    { name, pool, vmids }: ClusterDefinition,
    query: { limit: number; cursor?: string | undefined },
  ): Promise<Page<View>> {
    const [after] = decodeCursor(query.cursor, z.tuple([z.number().int()])) ?? [0];
    const hypervisor = this.hypervisors.get(name);
    const signal = AbortSignal.timeout(READ_MS);
    const { guests } = await hypervisor.inventory({ maxAgeMs: 0, signal });
    // Read after the inventory: what it shows of ours was reserved before.
    const { vmids: counted } = await this.useOf(name);
    const page = guests
      .filter((guest) => !guest.template && (isIn(vmids, guest) || guest.pool === pool))
      .filter((guest) => guest.vmid > after && (!counted.has(guest.vmid) || isPoolOfOthers(guest.pool, pool)))
      .toSorted((a, b) => a.vmid - b.vmid)
      .slice(0, query.limit + 1);
    const marks = new Map<number, Mark | 'unread' | undefined>();
    for (const { vmid } of page.slice(0, query.limit))
      marks.set(vmid, await markOf(() => hypervisor.readMark(vmid, plainCall(signal))));
    const known = await this.machines([...marks.values()]);
    return toPage(
      page,
      query.limit,
      (guest) => [guest.vmid],
      (guest) => this.view(guest, marks.get(guest.vmid), known, pool),
    );
  }

  private async machines(
    marks: readonly (Mark | 'unread' | undefined)[],
  ): Promise<ReadonlyMap<string, Known>> {
    const ids = marks.flatMap((mark) => (mark === undefined || mark === 'unread' ? [] : [mark.machine]));
    const rows = await this.source.query<Known[]>(
      `select distinct on (m.id) m.id, r.id as run, m.name,
              exists (select 1 from steps s join effects e on e.step_id = s.id where s.run_id = r.id and e.kind in ('guest', 'container') and e.released_at is not null) as "isReleased"
         from machines m join runs r on r.machine_id = m.id where m.id = any ($1::uuid[]) order by m.id, r.id desc`,
      [ids],
    );
    return new Map(rows.map((row) => [row.id, row]));
  }

  private view(
    guest: GuestInfo,
    mark: Mark | 'unread' | undefined,
    known: ReadonlyMap<string, Known>,
    pool: string,
  ): View {
    const { vmid, node, kind, name, pool: itsPool } = guest;
    const about = { vmid, node, kind, name: name ?? null, pool: itsPool ?? null };
    if (mark === 'unread')
      return {
        ...about,
        what: 'unknown',
        mark: null,
        machine: null,
        detail: 'it cannot be read now',
        next: null,
      };
    const shown = mark ?? null;
    const isOurs = mark?.deployment === this.context.deployment.id;
    if (mark !== undefined && mark.vmid === vmid && isOurs)
      return { ...about, mark: shown, ...ours(vmid, node, known.get(mark.machine)) };
    const foreign = { ...about, what: 'foreign', mark: shown, machine: null, next: null } as const;
    if (mark !== undefined && mark.vmid === vmid)
      return { ...foreign, detail: `another deployment made it (${mark.deployment})` };
    if (isPoolOfOthers(itsPool, pool)) return { ...foreign, detail: `another deployment has it in its pool` };
    return {
      ...foreign,
      detail:
        mark === undefined
          ? 'it carries no mark: never touched, its VMID is left out'
          : `a copy: its mark names VMID ${mark.vmid}`,
    };
  }
}

const isIn = ({ from, to }: { from: number; to: number }, { vmid }: GuestInfo): boolean =>
  vmid >= from && vmid <= to;

/** What carries our own mark and nobody counts on. */
function ours(
  vmid: number,
  node: string,
  machine: Known | undefined,
): Pick<View, 'what' | 'machine' | 'detail' | 'next'> {
  if (machine === undefined)
    return {
      what: 'found',
      machine: null,
      detail:
        'our mark, and no machine of this name is in the database: it lost its last seconds, or an older copy runs',
      next: `never deleted by us; look at it on ${node}: qm config ${vmid}`,
    };
  const { name, run, isReleased } = machine;
  return isReleased
    ? {
        what: 'released',
        machine: name,
        detail: 'a person let go of it',
        next: 'hatchery admin released',
      }
    : {
        what: 'orphan',
        machine: name,
        detail:
          'its run is over; what a late clone left is undone by itself within minutes, what was restored stays',
        next: `hatchery run show ${run}`,
      };
}

async function markOf(read: () => Promise<Mark | undefined>): Promise<Mark | 'unread' | undefined> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof HatcheryError) return 'unread';
    throw error;
  }
}
