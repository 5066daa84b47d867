import { z } from 'zod';

/** A user or group of a directory, as a machine knows it. Blanks would end a name in a list, and nothing in it means anything to a shell. */
export const accountName = z
  .string()
  .regex(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/, 'write a user or group name without blanks');
