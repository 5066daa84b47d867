// Writes what is generated from the API description: `client` = src/client, `docs` = docs/api, neither = both. Needs a fresh build.
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { brunoFiles, clientFiles } from './api-files.mjs';

const root = join(import.meta.dirname, '..');
const wanted = process.argv[2];
const printed = execFileSync(process.execPath, [join(root, 'dist/app/print-openapi.js')], {
  encoding: 'utf8',
  maxBuffer: 64 * 1024 * 1024,
});
const document = JSON.parse(printed);

function replaceFolder(folder, files) {
  rmSync(join(root, folder), { recursive: true, force: true });
  for (const [name, text] of files) {
    const path = join(root, folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
  console.log(`${folder}: ${files.size} files`);
}

if (wanted !== 'docs') replaceFolder('src/client', await clientFiles(document));
if (wanted !== 'client') replaceFolder('docs/api', brunoFiles(document));
