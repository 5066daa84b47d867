import { join } from 'node:path';
import { EXIT, HatcheryError, ERRORS } from '../../core/errors.js';
import { claimInstance, resolveStateFolder, writeCliAccess } from '../../drivers/embedded/state-folder.js';
import type { BatchResults } from '../../client/types.gen.js';
import { Cli } from '../cli.js';
import { processWorld } from '../process-world.js';
import { resultsText } from '../render/results.js';
import type { CliWorld } from '../world.js';
import { newStack, type Stack } from './children.js';
import { DemoApi } from './class-run.js';
import { DEMO_USAGE, readDemoOptions, type DemoOptions } from './options.js';
import { runClass } from './run-class.js';
import { startDemo } from './start-demo.js';

const PACKAGE_ROOT = join(import.meta.dirname, '..', '..', '..');
const log = (line: string): void => void process.stderr.write(`${line}\n`);

async function demo(options: DemoOptions, stack: Stack, stopped: Promise<unknown>): Promise<number> {
  const stateFolder = await resolveStateFolder(
    process.env['HATCHERY_STATE_DIR'] ?? join(PACKAGE_ROOT, '.hatchery'),
  );
  const instance = await claimInstance(stateFolder);
  stack.add(() => instance.release());
  const running = await startDemo(
    options,
    { stateFolder, folder: instance.folder, env: childEnvironment(), log },
    stack,
  );
  const { url, secrets, journal, broken } = running;
  const cli = new Cli(demoWorld());
  const api = await DemoApi.signIn(cli, url, secrets);
  await writeCliAccess(instance, { url, token: api.adminToken });
  const show = (text: string) => void (options.json ? process.stderr : process.stdout).write(text);
  const showResults = (results: BatchResults) => show(`\n${resultsText(results, cli.tableColumns)}\n`);
  const report = await Promise.race([runClass(api, { ...options, journal, log, show: showResults }), broken]);
  if (!options.json)
    show(
      `${report.ready} of ${report.machines} ready${report.seconds === null ? '' : ` in ${report.seconds} s`}, ${report.collisions} collisions.\n`,
    );
  if (options.json && options.exit) process.stdout.write(`${JSON.stringify(report)}\n`);
  if (!options.exit) {
    if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
    show(welcome(url, secrets.teacher, secrets.admin));
    await Promise.race([stopped, broken]);
  }
  const isServed = report.failed === 0 && report.collisions === 0 && (report.left ?? 0) === 0;
  return isServed || !options.exit ? EXIT.ok : EXIT.incomplete;
}

interface Login {
  readonly login: string;
  readonly password: string;
}

const welcome = (url: string, teacher: Login, admin: Login): string => `
Hatchery runs at ${url}
  API and documentation   ${url}/docs
  queues                  ${url}/queues
  teacher                 ${teacher.login} / ${teacher.password}
  admin                   ${admin.login} / ${admin.password}
  command line            npx --no-install hatchery batch show class-l3-info

Ctrl-C stops everything.
`;

/** The command line's world, but Ctrl-C ends the demo and not only the watching. */
function demoWorld(): CliWorld {
  const world = processWorld();
  return { ...world, terminal: { ...world.terminal, onInterrupt: () => () => undefined } };
}

/** Ours without any setting of the product: what a shell has set for real systems must not reach the demo. */
function childEnvironment(): NodeJS.ProcessEnv {
  const settings = /^(HATCHERY_|DATABASE_URL|REDIS_)/;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !settings.test(name)));
}

/** Resolves at the first request to stop: a signal, or the end of the npm that started us. */
function stopRequest(): Promise<unknown> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => resolve(signal));
    if (process.env['npm_lifecycle_event'] === undefined) return;
    const parent = process.ppid;
    setInterval(() => process.ppid !== parent && resolve('npm ended'), 1000).unref();
  });
}

/** Runs the demo and gives the exit code. Whatever happens, everything that was started is stopped. */
async function main(): Promise<number> {
  const stack = newStack();
  const stopped = stopRequest();
  try {
    const options = readDemoOptions(process.argv.slice(2));
    if (options === undefined) {
      process.stdout.write(DEMO_USAGE);
      return EXIT.ok;
    }
    const interrupted = stopped.then((): number => {
      log('\nStopping ...');
      return options.exit ? EXIT.internal : EXIT.ok;
    });
    return await Promise.race([demo(options, stack, stopped), interrupted]);
  } catch (error) {
    log(
      error instanceof HatcheryError
        ? [error.message, error.hint].filter(Boolean).join('\n')
        : String((error as Error).stack ?? error),
    );
    return error instanceof HatcheryError ? ERRORS[error.code].exit : EXIT.internal;
  } finally {
    await stack.stop();
  }
}

// `exit` and not `exitCode`: a stream that is still open must not keep a demo alive whose parts have all ended.
process.exit(await main());
