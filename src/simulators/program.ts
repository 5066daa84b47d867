import { fstatSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { HatcheryError } from '../core/errors.js';
import type { RunningSimulator } from './context.js';
import {
  SIMULATOR_NAMES,
  startSimulators,
  type SimulatorName,
  type Simulators,
  type SimulatorSettings,
} from './simulators.js';

/**
 * The simulators as a program: `program.js proxmox|winrm|guacamole|all [--port P] [--seed S] [--time-scale F] [--world FILE] [--faults FILE] [--journal FILE] [--state FILE]`.
 * When listening it prints one JSON line. With `all` the line has `simulators`, one such object each, and its own fields are those of Proxmox.
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
  readonly username?: string;
  readonly password?: string;
  readonly journal: string;
}

function readArguments(argv: readonly string[]): {
  name: SimulatorName | 'all';
  settings: SimulatorSettings;
} {
  const text = { type: 'string' } as const;
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      port: text,
      seed: text,
      'time-scale': text,
      world: text,
      faults: text,
      journal: text,
      state: text,
    },
  });
  const name = [...SIMULATOR_NAMES, 'all' as const].find((known) => known === positionals[0]);
  if (name === undefined || positionals.length !== 1)
    throw new HatcheryError(
      'settings-invalid',
      'Unable to start a simulator: write one of proxmox, winrm, guacamole, all',
    );
  const settings: SimulatorSettings = {
    which: name === 'all' ? SIMULATOR_NAMES : [name],
    port: numberOf('--port', values.port, 0, 65_535) ?? 0,
    timeScale: numberOf('--time-scale', values['time-scale'], 0.0001, 1000) ?? 1,
    ...(values.seed === undefined ? {} : { seed: values.seed }),
    ...(values.world === undefined ? {} : { worldFile: values.world }),
    ...(values.faults === undefined ? {} : { faultsFile: values.faults }),
    ...(values.journal === undefined ? {} : { journalFile: values.journal }),
    ...(values.state === undefined ? {} : { stateFile: values.state }),
  };
  return { name, settings };
}

function numberOf(option: string, text: string | undefined, from: number, to: number): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (text.trim() === '' || !(value >= from && value <= to))
    throw new HatcheryError(
      'settings-invalid',
      `Unable to start a simulator: ${option} must be a number from ${from} to ${to}`,
    );
  return value;
}

/** The line that tells how to reach what was started. */
function listeningLine(
  name: SimulatorName | 'all',
  running: Simulators,
): Listening | (Listening & { simulators: Listening[] }) {
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
  const { name, settings } = readArguments(process.argv.slice(2));
  const running = await startSimulators(settings);
  whenToldToStop(() => {
    running.stop().then(
      () => process.exit(0),
      (error: unknown) => {
        process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
        process.exit(1);
      },
    );
  });
  process.stdout.write(`${JSON.stringify(listeningLine(name, running))}\n`);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode =
    error instanceof HatcheryError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') ? 2 : 1;
}
