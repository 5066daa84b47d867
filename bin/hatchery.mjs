#!/usr/bin/env node
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const main = join(fileURLToPath(new URL('..', import.meta.url)), 'dist', 'cli', 'main.js');
if (existsSync(main)) await import(pathToFileURL(main).href);
else {
  process.stderr.write(
    'Hatchery is not built yet: run npm ci and npm run build, or npm run demo, which does both.\n',
  );
  process.exitCode = 1;
}
