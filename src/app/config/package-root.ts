import { join } from 'node:path';

/** The folder that holds package.json, from `src/app/config` as well as from `dist/app/config`. */
export const PACKAGE_ROOT = join(import.meta.dirname, '..', '..', '..');
