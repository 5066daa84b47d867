import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EngineModule } from '../../src/app/engine/engine.module.js';
import { loadSite } from '../../src/app/config/site.js';
import { startApi, type ApiApp } from './api-app.js';
import { simulatedSite, type SimulatedSite } from './simulated-site.js';

/** The whole product in this process, role `all`, on the test stores and a simulated site. */
export interface Product {
  readonly api: ApiApp;
  readonly site: SimulatedSite;
  stop(): Promise<void>;
}

/** `blueprints`: YAML texts beside those that are shipped, by name. `redisUrl`: instead of the shared one. */
export async function startProduct(
  options: { blueprints?: Record<string, string>; redisUrl?: string } = {},
): Promise<Product> {
  const site = await simulatedSite();
  const folder = join(site.configDir, 'blueprints');
  await mkdir(folder, { recursive: true });
  for (const [name, yaml] of Object.entries(options.blueprints ?? {}))
    await writeFile(join(folder, `${name}.yaml`), yaml);
  const api = await startApi({
    site: loadSite({ configDir: site.configDir, env: {} }),
    engine: EngineModule.create(),
    env: { HATCHERY_REMOTE_TIME_SCALE: String(site.timeScale) },
    ...(options.redisUrl === undefined ? {} : { redisUrl: options.redisUrl }),
  });
  return {
    api,
    site,
    async stop() {
      await api.close();
      await site.stop();
    },
  };
}
