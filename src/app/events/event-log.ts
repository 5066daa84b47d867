import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { HatcheryError } from '../../core/errors.js';

/**
 * A place in the log. Rows are served in the order (xid, seq): every transaction below the oldest open one has ended, so nothing can appear
 * before a place that was already passed. Order of seq alone would lose rows, because transactions do not commit in the order of their numbers.
 */
export interface Place {
  readonly xid: string;
  readonly seq: number;
}

export interface LoggedEvent extends Place {
  readonly at: Date;
  readonly type: string;
  readonly batch: string | null;
  readonly machine: string | null;
  readonly run: string | null;
  readonly step: string | null;
  readonly state: string | null;
  readonly percent: number | null;
  readonly code: string | null;
}

export const START: Place = { xid: '0', seq: 0 };

const COLUMNS =
  'xid::text as xid, seq::float8 as seq, at, type, batch, machine, run, step, state, percent, code';
const SETTLED = 'xid < pg_snapshot_xmin(pg_current_snapshot())';

/** True when `a` stands after `b`. */
export function isAfter(a: Place, b: Place): boolean {
  const [left, right] = [BigInt(a.xid), BigInt(b.xid)];
  return left === right ? a.seq > b.seq : left > right;
}

/** The table `events`, read in the one order that is safe. */
@Injectable()
export class EventLog {
  constructor(@InjectDataSource() private readonly source: DataSource) {}

  /** The place behind the last settled row. */
  async end(): Promise<Place> {
    const [last] = await this.source.query<Place[]>(
      `select xid::text as xid, seq::float8 as seq from events where ${SETTLED} order by events.xid desc, events.seq desc limit 1`,
    );
    return last ?? START;
  }

  /** The place of an id that a client saw. Error: `request-invalid` for an id that never was. */
  async placeOf(seq: number): Promise<Place> {
    if (seq === 0) return START;
    const [row] = await this.source.query<Place[]>(
      'select xid::text as xid, seq::float8 as seq from events where seq = $1',
      [seq],
    );
    if (!row)
      throw new HatcheryError(
        'request-invalid',
        `Unable to resume the events after ${seq}: there is no event of that id`,
        {
          hint: 'Connect without Last-Event-ID, or with after=0 for everything.',
        },
      );
    return row;
  }

  /** Settled rows behind `place`, at most `limit`; only of `batch` or of batches of `owner` when given. */
  async after(
    place: Place,
    limit: number,
    only: { batch?: string | undefined; owner?: string | undefined } = {},
  ): Promise<LoggedEvent[]> {
    return this.source.query<LoggedEvent[]>(
      `select ${COLUMNS} from events
        where (events.xid, events.seq) > ($1::text::xid8, $2::bigint) and ${SETTLED}
          and ($4::uuid is null or batch = $4)
          and ($5::uuid is null or exists (select 1 from batches b where b.id = events.batch and b.owner_id = $5))
        order by events.xid, events.seq limit $3`,
      [place.xid, place.seq, limit, only.batch ?? null, only.owner ?? null],
    );
  }

  async owners(batchIds: readonly string[]): Promise<{ id: string; owner_id: string }[]> {
    return this.source.query('select id, owner_id from batches where id = any ($1::uuid[])', [batchIds]);
  }
}
