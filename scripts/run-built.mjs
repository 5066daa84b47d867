// Runs a TypeScript file of test/ in this process, while what it imports from src is the built file in dist, loaded by Node itself:
// nothing of the runner stands in between, and the product's own code runs as it would in service.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ready, root } from './ready.mjs';

/** Makes the clone runnable, then hands `load` to `work`; `load(path)` gives the exports of a file below test/. */
export async function withBuilt(work) {
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
    await work((path) => server.ssrLoadModule(`/test/${path}`));
  } finally {
    await server.close();
  }
}

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
