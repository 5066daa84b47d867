// npm run demo: makes the clone runnable, then becomes the demo (same process: whoever kills it kills the demo itself).
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ready, root } from './ready.mjs';

ready();
const main = join(root, 'dist', 'cli', 'demo', 'main.js');
process.argv[1] = main;
await import(pathToFileURL(main).href);
