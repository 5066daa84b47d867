import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PACKAGE_ROOT } from './package-root.js';

/** The program that works on the files of a node, as admins install it too. */
export const nodeHelper = (): string => readFileSync(join(PACKAGE_ROOT, 'bin', 'hatchery-node'), 'utf8');
