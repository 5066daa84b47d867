import { z } from 'zod';
import { pageOf } from './page.dto.js';

export const ReleasedView = z
  .object({
    id: z.uuid(),
    kind: z.string(),
    system: z.string(),
    key: z.string(),
    run: z.uuid(),
    machine: z.string(),
    batch: z.string(),
    releasedAt: z.iso.datetime(),
    by: z.string(),
    why: z.string(),
  })
  .meta({ id: 'ReleasedEffect' });
export const ReleasedPage = pageOf(ReleasedView).meta({ id: 'ReleasedEffectPage' });
