import { z } from 'zod';
import { HatcheryError } from '../../core/errors.js';

/** Query of every list. */
export const pageQuery = {
  limit: z.coerce.number().int().min(1).max(200).default(50),
  cursor: z.string().max(500).optional(),
};

/** A list without filters. */
export const ListQuery = z.strictObject(pageQuery);

export const pageOf = <T extends z.ZodType>(item: T) =>
  z.object({ items: z.array(item), nextCursor: z.string().nullable() });

export interface Page<T> {
  readonly items: T[];
  readonly nextCursor: string | null;
}

/** A cursor is the sort key of the last row of a page, opaque to clients. */
export const encodeCursor = (key: readonly (string | number)[]): string =>
  Buffer.from(JSON.stringify(key)).toString('base64url');

export function decodeCursor<S extends z.ZodType>(
  cursor: string | undefined,
  key: S,
): z.output<S> | undefined {
  if (cursor === undefined) return undefined;
  try {
    return key.parse(JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8')));
  } catch (cause) {
    throw new HatcheryError('request-invalid', 'Unable to read the page: cursor is not one of ours', {
      hint: 'Send nextCursor of the page before, or no cursor for the first page.',
      cause,
    });
  }
}

/** Rows were asked for with `limit + 1`: the one too many says that there is a next page. */
export function toPage<R, T>(
  rows: readonly R[],
  limit: number,
  key: (row: R) => readonly (string | number)[],
  view: (row: R) => T,
): Page<T> {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  return {
    items: shown.map(view),
    nextCursor: rows.length > limit && last !== undefined ? encodeCursor(key(last)) : null,
  };
}
