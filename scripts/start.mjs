// npm start: makes the clone runnable, then becomes the service (same process: signals and exit code are its own).
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ready, root } from './ready.mjs';

ready();
const main = join(root, 'dist', 'app', 'main.js');
process.argv[1] = main;
await import(pathToFileURL(main).href);
