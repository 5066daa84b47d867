// Every optional dependency that the lockfile names must be in it for every platform, or npm ci fails on the others.
// A registry that lacks one lets npm install succeed and leaves the gap for the next person.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const { packages } = JSON.parse(readFileSync(join(import.meta.dirname, '..', 'package-lock.json'), 'utf8'));
const names = new Set(
  Object.keys(packages).map((path) => path.slice(path.lastIndexOf('node_modules/') + 13)),
);
const problems = [];
for (const [path, entry] of Object.entries(packages)) {
  for (const name of Object.keys(entry.optionalDependencies ?? {}))
    if (!names.has(name))
      problems.push(`${path || 'the project'} wants ${name}, which is not in package-lock.json`);
  // The address of one machine's registry is no business of the others.
  if (entry.resolved && !entry.link) problems.push(`${path} carries the address it was downloaded from`);
  if (path.startsWith('node_modules/') && !entry.integrity && !entry.link && !entry.inBundle)
    problems.push(`${path} has no integrity`);
}
for (const problem of problems) console.error(problem);
if (problems.length > 0) console.error('Run npm install with versions whose every platform package exists.');
process.exitCode = problems.length > 0 ? 1 : 0;
