import { fstatSync, readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { HatcheryError } from '../core/errors.js';
import type { SimClock } from './clock.js';
import type { RunningSimulator } from './context.js';
import { readAccess, startForeigner } from './foreign/start-foreign.js';
import { readFaults } from './fault-file.js';
import type { Faults } from './faults.js';
import { SIMULATOR_NAMES, type SimulatorName } from './names.js';
import type { SshAccess } from './proxmox/ssh/ssh-nodes.js';
import { startSimulators, type Simulators } from './simulators.js';
import { createTransportContext } from './transport/create-context.js';
import { startTransport } from './transport/transport.js';

/**
 * The simulators as a program: `program.js proxmox|winrm|guacamole|all [--port P] [--seed S] [--time-scale F] [--world FILE] [--faults FILE] [--journal FILE] [--state FILE]`.
 * `transport --to URL [--ca FILE] [--port P] [--seed S] [--time-scale F] [--faults FILE] [--journal FILE]` stands before a store or a server and disturbs what goes by.
 * `foreign --at FILE [--who person|deployment] [--range FROM-TO] [--pool P] [--name N] [--every SECONDS] [--seed S]` is somebody else who works on the cluster whose
 * simulator printed the line in FILE; at the end it says what it did.
 * When listening it prints one JSON line. With `all` the line has `simulators`, one such object each, and its own fields are those of Proxmox.
 * SIGHUP reads the fault rules again: a rule that stays as it was goes on counting.
 * It ends, saving its state, on SIGTERM or SIGINT and when whoever started it goes away (IPC or a piped stdin closes).
 */
interface Listening {
  readonly simulator: string;
  readonly endpoints: readonly string[];
  readonly caFile?: string;
  readonly fingerprint?: string;
  readonly tokenId?: string;
  readonly tokenSecret?: string;
  readonly rootTokenId?: string;
  readonly rootTokenSecret?: string;
  /** To the nodes, by name. */
  readonly ssh?: SshAccess;
  readonly username?: string;
  readonly password?: string;
  readonly journal: string;
}

/** Something that runs until it is told to stop. */
interface Running {
  readonly line: object;
  readonly context?: { readonly faults: Faults; readonly clock: SimClock };
  readonly faultsFile?: string | undefined;
  stop(): Promise<void>;
}

const text = { type: 'string' } as const;
const COMMON = { port: text, seed: text, 'time-scale': text, faults: text, journal: text };
type CommonValues = { readonly [Name in keyof typeof COMMON]?: string };

/** What all of them are told in the same words. */
function commonSettings(values: CommonValues): {
  port: number;
  timeScale: number;
  seed?: string;
  faultsFile?: string;
  journalFile?: string;
} {
  return {
    port: numberOf('--port', values.port, 0, 65_535) ?? 0,
    timeScale: numberOf('--time-scale', values['time-scale'], 0.0001, 1000) ?? 1,
    ...(values.seed === undefined ? {} : { seed: values.seed }),
    ...(values.faults === undefined ? {} : { faultsFile: values.faults }),
    ...(values.journal === undefined ? {} : { journalFile: values.journal }),
  };
}

function numberOf(option: string, text: string | undefined, from: number, to: number): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (text.trim() === '' || !(value >= from && value <= to))
    throw refused(`${option} must be a number from ${from} to ${to}`);
  return value;
}

const refused = (why: string): HatcheryError =>
  new HatcheryError('settings-invalid', `Unable to start a simulator: ${why}`);

async function startWorld(name: SimulatorName | 'all', args: string[]): Promise<Running> {
  const { values } = parseArgs({ args, options: { ...COMMON, world: text, state: text } });
  const running = await startSimulators({
    ...commonSettings(values),
    which: name === 'all' ? SIMULATOR_NAMES : [name],
    ...(values.world === undefined ? {} : { worldFile: values.world }),
    ...(values.state === undefined ? {} : { stateFile: values.state }),
  });
  return {
    line: listeningLine(name, running),
    context: running.context,
    faultsFile: values.faults,
    stop: () => running.stop(),
  };
}

async function startOneTransport(args: string[]): Promise<Running> {
  const { values } = parseArgs({ args, options: { ...COMMON, to: text, ca: text } });
  const { port, ...settings } = commonSettings(values);
  const context = createTransportContext(settings);
  try {
    const transport = await startTransport(context, {
      port,
      to: values.to ?? '',
      ...(values.ca === undefined ? {} : { ca: readFileSync(values.ca, 'utf8') }),
    });
    const { endpoints, fingerprint } = transport;
    return {
      line: {
        simulator: 'transport',
        endpoints,
        ...(fingerprint !== undefined && { caFile: context.caFile, fingerprint }),
        journal: context.journal.file,
      },
      context,
      faultsFile: values.faults,
      async stop() {
        context.clock.stop();
        await transport.stop().finally(() => context.close());
      },
    };
  } catch (error) {
    context.close();
    throw error;
  }
}

/** A person works where the product of the default world does, another deployment beside it. */
const FOREIGN_HABITS = {
  person: { range: '10000-19999', pool: 'hatchery-demo' },
  deployment: { range: '30000-39999', pool: 'hatchery-other' },
};

async function startForeign(args: string[]): Promise<Running> {
  const options = { at: text, who: text, range: text, pool: text, name: text, every: text, seed: text };
  const { values } = parseArgs({ args, options });
  const { at = '', who = 'person', seed = '1' } = values;
  if (who !== 'person' && who !== 'deployment') throw refused('--who must be person or deployment');
  const usual = FOREIGN_HABITS[who];
  const range = /^(\d+)-(\d+)$/
    .exec(values.range ?? usual.range)
    ?.slice(1)
    .map(Number);
  if (range === undefined || range[0]! < 100 || range[1]! < range[0]!)
    throw refused('--range must be two VMIDs, e.g. 10000-19999');
  const foreigner = await startForeigner(readAccess(at), {
    who,
    seed,
    pool: values.pool ?? usual.pool,
    range: [range[0]!, range[1]!],
    name: values.name ?? who,
    everySeconds: numberOf('--every', values.every, 0.01, 86_400) ?? 10,
  });
  return {
    line: { simulator: 'foreign', actor: foreigner.actor },
    async stop() {
      await foreigner.stop();
      process.stdout.write(`${JSON.stringify({ did: foreigner.did })}\n`);
    },
  };
}

function start([what, ...args]: string[]): Promise<Running> {
  if (what === 'transport') return startOneTransport(args);
  if (what === 'foreign') return startForeign(args);
  const name = [...SIMULATOR_NAMES, 'all' as const].find((known) => known === what);
  if (name === undefined) throw refused('write one of proxmox, winrm, guacamole, all, transport, foreign');
  return startWorld(name, args);
}

/** Reads the fault rules again; a file that cannot be used changes nothing. */
function whenToldToReread({ context, faultsFile }: Running): void {
  process.on('SIGHUP', () => {
    if (context === undefined || faultsFile === undefined) return;
    const { faults, clock } = context;
    try {
      faults.replace(readFaults(faultsFile, clock));
    } catch (error) {
      process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    }
  });
}

/** The line that tells how to reach what was started. */
function listeningLine(name: SimulatorName | 'all', running: Simulators): object {
  const { context, proxmox, winrm, guacamole } = running;
  const journal = context.journal.file;
  const facts = (simulator: SimulatorName, one: RunningSimulator): Listening => ({
    simulator,
    endpoints: one.endpoints,
    ...(one.endpoints[0]?.startsWith('https:') && { caFile: context.caFile }),
    ...(one.fingerprint !== undefined && { fingerprint: one.fingerprint }),
    ...(one.username !== undefined && { username: one.username }),
    ...(one.password !== undefined && { password: one.password }),
    journal,
  });
  const lines: Listening[] = [];
  if (proxmox)
    lines.push({
      ...facts('proxmox', proxmox),
      tokenId: proxmox.token.id,
      tokenSecret: proxmox.token.secret,
      rootTokenId: proxmox.rootToken.id,
      rootTokenSecret: proxmox.rootToken.secret,
      ssh: proxmox.ssh,
    });
  if (winrm) lines.push(facts('winrm', winrm));
  if (guacamole) lines.push(facts('guacamole', guacamole));
  return name === 'all' ? { ...lines[0]!, simulator: 'all', simulators: lines } : lines[0]!;
}

/** Calls `end` once, when this process should go. */
function whenToldToStop(end: () => void): void {
  let isEnding = false;
  const once = (): void => {
    if (isEnding) return;
    isEnding = true;
    end();
  };
  process.on('SIGTERM', once);
  process.on('SIGINT', once);
  if (process.connected) process.on('disconnect', once);
  const input = fstatSync(0);
  if (input.isFIFO() || input.isSocket()) {
    process.stdin.on('end', once).on('close', once).on('error', once);
    process.stdin.resume();
  }
}

try {
  const running = await start(process.argv.slice(2));
  whenToldToReread(running);
  whenToldToStop(() => {
    running.stop().then(
      () => process.exit(0),
      (error: unknown) => {
        process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
        process.exit(1);
      },
    );
  });
  process.stdout.write(`${JSON.stringify(running.line)}\n`);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode =
    error instanceof HatcheryError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') ? 2 : 1;
}
