import { z } from 'zod';

/** Text that a table can hold and a terminal can show: no control, invisible or unassigned characters. */
export const plainText = (maxCharacters: number): z.ZodString =>
  z
    .string()
    .trim()
    .min(1, 'write something')
    .max(maxCharacters, `write at most ${maxCharacters} characters`)
    .refine((text) => !/\p{C}/u.test(text), 'leave out control and invisible characters');

/** A UUID of ours. */
export const id = z.uuid('write an id such as 01994a3e-0000-7000-8000-000000000001');
