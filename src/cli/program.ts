import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { ERRORS, EXIT, HatcheryError } from '../core/errors.js';
import { Cli, jsonText } from './cli.js';
import { adminDoctor } from './commands/admin-doctor.js';
import { adminDrain } from './commands/admin-drain.js';
import { adminExport } from './commands/admin-export.js';
import { adminLocks } from './commands/admin-locks.js';
import { adminNewDeployment } from './commands/admin-new-deployment.js';
import { adminReleased } from './commands/admin-released.js';
import { adminSlots } from './commands/admin-slots.js';
import { adminWorkers } from './commands/admin-workers.js';
import { batchAdd } from './commands/batch-add.js';
import { batchCancel } from './commands/batch-cancel.js';
import { batchCreate } from './commands/batch-create.js';
import { batchCredentials } from './commands/batch-credentials.js';
import { batchDelete } from './commands/batch-delete.js';
import { batchList } from './commands/batch-list.js';
import { batchPlan } from './commands/batch-plan.js';
import { batchResults } from './commands/batch-results.js';
import { batchRetry } from './commands/batch-retry.js';
import { batchShow } from './commands/batch-show.js';
import { batchWatch } from './commands/batch-watch.js';
import { clusterCheck } from './commands/cluster-check.js';
import { clusterReleaseVmid } from './commands/cluster-release-vmid.js';
import { clusterResume } from './commands/cluster-resume.js';
import { clusterVmids } from './commands/cluster-vmids.js';
import { clusterVendorData } from './commands/cluster-vendor-data.js';
import { clusterCompare } from './commands/cluster-compare.js';
import { clusterGuests } from './commands/cluster-guests.js';
import { clusterLimits } from './commands/cluster-limits.js';
import { clusterList } from './commands/cluster-list.js';
import { clusterPause } from './commands/cluster-pause.js';
import { clusterRecord } from './commands/cluster-record.js';
import { journalCheck } from './commands/journal-check.js';
import { login } from './commands/login.js';
import { logout } from './commands/logout.js';
import { machineDelete } from './commands/machine-delete.js';
import { machineList } from './commands/machine-list.js';
import { machineShow } from './commands/machine-show.js';
import { runAdopt } from './commands/run-adopt.js';
import { runCancel } from './commands/run-cancel.js';
import { runList } from './commands/run-list.js';
import { runRelease } from './commands/run-release.js';
import { runRetry } from './commands/run-retry.js';
import { runShow } from './commands/run-show.js';
import { runSkip } from './commands/run-skip.js';
import { simulate } from './commands/simulate.js';
import { tokenCreate } from './commands/token-create.js';
import { tokenList } from './commands/token-list.js';
import { tokenRevoke } from './commands/token-revoke.js';
import { userCreate } from './commands/user-create.js';
import { userList } from './commands/user-list.js';
import { errorJson, errorText } from './render/errors.js';
import { styleFor } from './render/style.js';
import { Interrupted, INTERRUPTED, type CliWorld } from './world.js';

type CommandOf = (cli: Cli) => Command;

const GROUPS: readonly { name: string; summary: string; commands: readonly CommandOf[] }[] = [
  {
    name: 'batch',
    summary: 'Many machines from one roster.',
    commands: [
      batchPlan,
      batchCreate,
      batchList,
      batchShow,
      batchWatch,
      batchResults,
      batchAdd,
      batchCredentials,
      batchRetry,
      batchCancel,
      batchDelete,
    ],
  },
  { name: 'machine', summary: 'What one person has.', commands: [machineList, machineShow, machineDelete] },
  {
    name: 'run',
    summary: 'How machines are made and undone.',
    commands: [runList, runShow, runRetry, runCancel, runSkip, runAdopt, runRelease],
  },
  {
    name: 'cluster',
    summary: 'Where machines are made.',
    commands: [
      clusterList,
      clusterCheck,
      clusterGuests,
      clusterPause,
      clusterResume,
      clusterLimits,
      clusterVmids,
      clusterReleaseVmid,
      clusterVendorData,
      clusterRecord,
      clusterCompare,
    ],
  },
  { name: 'user', summary: 'Accounts of the service.', commands: [userCreate, userList] },
  { name: 'token', summary: 'Tokens for scripts.', commands: [tokenCreate, tokenList, tokenRevoke] },
  {
    name: 'admin',
    summary: 'For whoever runs the service.',
    commands: [
      adminDoctor,
      adminWorkers,
      adminDrain,
      adminLocks,
      adminSlots,
      adminReleased,
      adminExport,
      adminNewDeployment,
    ],
  },
  { name: 'journal', summary: 'What the simulators saw.', commands: [journalCheck] },
];

/** Runs one command line and gives its exit code. Nothing is thrown. */
export async function runCommandLine(args: readonly string[], world: CliWorld): Promise<number> {
  const cli = new Cli(world);
  // Also for what goes wrong before the command is known.
  cli.isJson = args.includes('--json');
  try {
    await program(cli, await versionOf(world.root)).parseAsync(args, { from: 'user' });
    return cli.exitCode;
  } catch (error) {
    return failed(cli, error);
  }
}

function program(cli: Cli, version: string): Command {
  const root = new Command('hatchery')
    .description('Turns class lists into machines on Proxmox VE clusters.')
    .version(version, '--version', 'the version of this command')
    .option('--url <url>', 'address of the service (else HATCHERY_URL, a running demo, the last login)')
    .option('--token <token>', 'token to sign in with (else HATCHERY_TOKEN, ...)')
    .addHelpText(
      'after',
      '\nExample:\n  hatchery batch create class.csv --blueprint student-desktop --name l3-info --wait',
    );
  for (const { name, summary, commands } of GROUPS) {
    const group = new Command(name).description(summary);
    for (const make of commands) group.addCommand(make(cli));
    root.addCommand(group);
  }
  for (const make of [login, logout, simulate]) root.addCommand(make(cli));
  root.hook('preAction', (_root, action) => {
    const { url, token, json } = action.optsWithGlobals<{ url?: string; token?: string; json?: boolean }>();
    cli.given = { url, token };
    cli.isJson = json === true;
  });
  eachCommand(root, (one) => {
    one
      .exitOverride()
      .helpCommand(false)
      .configureOutput({
        writeOut: (text) => cli.world.terminal.out(text),
        writeErr: (text) => cli.world.terminal.err(text),
        getOutHelpWidth: () => cli.world.terminal.width(),
        getErrHelpWidth: () => cli.world.terminal.width(),
      });
    one.helpOption('-h, --help', 'this text').showHelpAfterError(`(${pathOf(one)} --help says more)`);
  });
  return root;
}

function eachCommand(from: Command, visit: (one: Command) => void): void {
  visit(from);
  for (const child of from.commands) eachCommand(child, visit);
}

const pathOf = (one: Command): string => (one.parent ? `${pathOf(one.parent)} ${one.name()}` : one.name());

function failed(cli: Cli, error: unknown): number {
  const { terminal } = cli.world;
  if (error instanceof Interrupted) {
    terminal.err('\n');
    return INTERRUPTED;
  }
  // Commander has said what is wrong, or shown the help that was asked for.
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return EXIT.ok;
    if (cli.isJson) terminal.out(jsonText(errorJson(misused(error))));
    return EXIT.refused;
  }
  const known = error instanceof HatcheryError ? error : bug(error);
  terminal.err(errorText(known, styleFor(terminal.errColor)));
  if (cli.isJson) terminal.out(jsonText(errorJson(known)));
  return ERRORS[known.code].exit;
}

/** Without a command, commander shows the help and says nothing. */
const misused = ({ code, message }: CommanderError): HatcheryError =>
  new HatcheryError(
    'request-invalid',
    `Unable to understand the command: ${code === 'commander.help' ? 'a command is missing' : message.replace(/^error: /, '')}`,
    { hint: 'hatchery --help lists all of them.' },
  );

const bug = (error: unknown): HatcheryError =>
  new HatcheryError(
    'internal',
    `Unable to finish the command: ${error instanceof Error ? error.message : String(error)}`,
    {
      hint: 'This is a mistake in Hatchery itself.',
      cause: error,
    },
  );

async function versionOf(root: string): Promise<string> {
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
  return version;
}
