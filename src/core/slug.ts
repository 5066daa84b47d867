import { z } from 'zod';

/** The name of something that a site declares: it stands in URLs, file names and messages as it is. */
export const slug = z
  .string()
  .regex(
    /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/,
    'write lower-case letters, digits and inner hyphens, at most 63 characters',
  );
