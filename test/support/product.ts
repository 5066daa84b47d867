import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { EngineModule } from '../../src/app/engine/engine.module.js';
import { loadSite } from '../../src/app/config/site.js';
import { startApi, type ApiApp } from './api-app.js';
import { putVendorData, simulatedSite, type SimulatedSite } from './simulated-site.js';

/** The whole product in this process, role `all`, on the test stores and a simulated site. */
export interface Product {
  readonly api: ApiApp;
  readonly site: SimulatedSite;
  stop(): Promise<void>;
}

/** `blueprints`: YAML texts beside those that are shipped, by name. `files`: others of the config folder. `redisUrl`: instead of the shared one. */
export async function startProduct(
  options: {
    blueprints?: Record<string, string>;
    files?: Record<string, string>;
    redisUrl?: string;
    /** New machines phone home. */
    vendorData?: boolean;
    site?: Parameters<typeof simulatedSite>[0];
  } = {},
): Promise<Product> {
  const { vendorData = false } = options;
  const site = await simulatedSite({ ...options.site, vendorData });
  const files = new Map(Object.entries(options.files ?? {}));
  for (const [name, yaml] of Object.entries(options.blueprints ?? {}))
    files.set(`blueprints/${name}.yaml`, yaml);
  for (const [name, text] of files) {
    const file = join(site.configDir, name);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, text);
  }
  const api = await startApi({
    site: loadSite({ configDir: site.configDir, env: {} }),
    engine: EngineModule.create(),
    env: {
      HATCHERY_REMOTE_TIME_SCALE: String(site.timeScale),
      // Its port is known when it listens; that guests are told something is all that matters before.
      ...(vendorData && { HATCHERY_PUBLIC_URL: 'http://not-yet.invalid' }),
    },
    ...(options.redisUrl === undefined ? {} : { redisUrl: options.redisUrl }),
  });
  if (vendorData) putVendorData(site.simulators, api.url);
  return {
    api,
    site,
    async stop() {
      await api.close();
      await site.stop();
    },
  };
}
