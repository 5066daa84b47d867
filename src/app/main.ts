import 'reflect-metadata';
import { EXIT, HatcheryError } from '../core/errors.js';
import { prepare } from './boot/prepare.js';
import { maskedSettings, readSettings, type Settings } from './config/settings.js';
import { createApp } from './create-app.js';
import { EngineModule } from './engine/engine.module.js';
import { createLogger } from './logging/logger.js';

const DEFAULT_PORT = 3000;
/** Longer than a worker takes to hand over its steps; then the process ends whatever it is doing. */
const GRACE_MS = 25_000;

async function main(): Promise<void> {
  const settings = readSettings(process.env);
  const logger = createLogger(settings.logging.level);
  logger.info({ settings: maskedSettings(settings) }, 'starting');
  const stopAsked = stopRequest();
  const { context, stop } = await prepare(settings, process.env, logger);
  try {
    const app = await createApp(context, EngineModule.create());
    const port = portOf(settings);
    if (port === undefined) await app.init();
    else await app.listen(port, settings.http.host);
    const url = port === undefined ? undefined : (await app.getUrl()).replace('[::1]', '127.0.0.1');
    logger.info({ role: settings.engine.role, url }, 'ready');
    process.send?.({ type: 'ready', url });
    const reason = await stopAsked;
    logger.info({ reason }, 'stopping');
    setTimeout(() => {
      logger.error('not stopped in time, ending now');
      process.exit(EXIT.internal);
    }, GRACE_MS).unref();
    await app.close();
  } finally {
    await stop();
  }
  logger.info('stopped');
}

/** An API listens where it is told or on 3000, a worker only where it is told. */
function portOf({ http, engine }: Settings): number | undefined {
  return http.port ?? (engine.role === 'worker' ? undefined : DEFAULT_PORT);
}

/** A signal, or the end of the process that started us over an IPC channel. */
function stopRequest(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => resolve(signal));
    if (process.send) process.on('disconnect', () => resolve('the parent process ended'));
  });
}

try {
  await main();
  process.exit(EXIT.ok);
} catch (error) {
  const isOurs = error instanceof HatcheryError && error.code !== 'internal';
  const text = isOurs
    ? `${error.message}${error.hint === undefined ? '' : `\n${error.hint}`}`
    : error instanceof Error
      ? error.stack
      : String(error);
  process.stderr.write(`${text}\n`);
  process.exit(isOurs ? EXIT.refused : EXIT.internal);
}
