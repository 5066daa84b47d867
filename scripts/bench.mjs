// npm run bench [-- NAME [OPTIONS]]: one of the benchmarks of test/bench, or all of them one after the other. Progress goes to stderr;
// the last line that each prints on stdout is one JSON object. The product's own code runs from dist, as it would in service.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './ready.mjs';
import { withBuilt } from './run-built.mjs';

const folder = join(root, 'test', 'bench');
const known = readdirSync(folder)
  .filter((file) => file.endsWith('.bench.ts'))
  .map((file) => file.slice(0, -'.bench.ts'.length));
const [name, ...args] = process.argv.slice(2);

if (name === '--help' || (name !== undefined && !known.includes(name))) {
  process.stderr.write(`npm run bench [-- NAME [OPTIONS]]\nNAME is one of: ${known.join(', ')}\n`);
  process.exit(name === '--help' ? 0 : 2);
}

await withBuilt(async (load) => {
  for (const one of name === undefined ? known : [name]) {
    process.stderr.write(`--- ${one}\n`);
    const { bench } = await load(`bench/${one}.bench.ts`);
    const { isMet, ...result } = await bench(args);
    process.stdout.write(`${JSON.stringify({ bench: one, isMet, ...result })}\n`);
    if (!isMet) process.exitCode = 1;
  }
});
process.exit();
