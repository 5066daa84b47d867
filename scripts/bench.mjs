// npm run bench [-- NAME [OPTIONS]]: one of the benchmarks of test/bench, or all of them one after the other. Progress goes to stderr;
// the last line that each prints on stdout is one JSON object. The product's own code runs from dist, as it would in service.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { ready, root } from './ready.mjs';

const folder = join(root, 'test', 'bench');
const known = readdirSync(folder)
  .filter((file) => file.endsWith('.bench.ts'))
  .map((file) => file.slice(0, -'.bench.ts'.length));
const [name, ...args] = process.argv.slice(2);

if (name === '--help' || (name !== undefined && !known.includes(name))) {
  process.stderr.write(`npm run bench [-- NAME [OPTIONS]]\nNAME is one of: ${known.join(', ')}\n`);
  process.exit(name === '--help' ? 0 : 2);
}

ready();
const { createServer } = await import('vite');
const swc = (await import('unplugin-swc')).default;
const server = await createServer({
  root,
  configFile: false,
  logLevel: 'error',
  oxc: false,
  appType: 'custom',
  server: { middlewareMode: true, hmr: false, ws: false, watch: null },
  optimizeDeps: { noDiscovery: true, include: [] },
  plugins: [builtSources(), swc.vite({ module: { type: 'es6' }, swcrc: true })],
});
try {
  for (const one of name === undefined ? known : [name]) {
    process.stderr.write(`--- ${one}\n`);
    const { bench } = await server.ssrLoadModule(`/test/bench/${one}.bench.ts`);
    const { isMet, ...result } = await bench(args);
    process.stdout.write(`${JSON.stringify({ bench: one, isMet, ...result })}\n`);
    if (!isMet) process.exitCode = 1;
  }
} finally {
  await server.close();
}
process.exit();

/** What a benchmark imports from src is the built file in dist, loaded by Node itself: nothing of the bench runner stands in between. */
function builtSources() {
  return {
    name: 'built-sources',
    enforce: 'pre',
    resolveId(source, importer) {
      if (importer === undefined || !source.startsWith('.')) return undefined;
      const path = join(importer, '..', source);
      if (!path.startsWith(join(root, 'src'))) return undefined;
      const built = path.replace(join(root, 'src'), join(root, 'dist'));
      if (!existsSync(built)) throw new Error(`${built} is not built`);
      return { id: built, external: true };
    },
  };
}
