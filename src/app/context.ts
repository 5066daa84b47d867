import type { Logger } from 'pino';
import type { Settings } from './config/settings.js';
import type { SiteConfig } from './config/site.js';

/** Everything that is known before Nest starts: settings, the site's files, where the stores are and who we are. */
export interface AppContext {
  readonly settings: Settings;
  readonly site: SiteConfig;
  /** The outside stores of the settings, or the embedded ones. */
  readonly stores: { readonly databaseUrl: string; readonly redisUrl: string; readonly redisPrefix: string };
  readonly deployment: { readonly id: string; readonly name: string };
  /** 32 bytes that encrypt secrets at rest. */
  readonly secretKey: Buffer;
  /** Made when first asked for: a service on outside stores may have no folder to write to. */
  stateDir(): Promise<string>;
  readonly logger: Logger;
}
