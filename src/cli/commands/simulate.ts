import { Argument, type Command } from 'commander';
import { command, type Cli } from '../cli.js';

const PROGRAM = 'simulators/program.js';
const WHICH = ['proxmox', 'winrm', 'guacamole', 'all', 'transport', 'foreign'];

export const simulate = (cli: Cli): Command =>
  command(
    'simulate',
    'Simulated servers to try things on, until Ctrl-C. Says in one JSON line how to reach them. A transport stands before a store or a server and disturbs its connections; foreign is somebody else who works on the cluster.',
    'hatchery simulate all --port 8006 --time-scale 0.05',
  )
    .addArgument(new Argument('<which>', 'which server').choices(WHICH))
    .option('--port <port>', 'first port; 0 = free ones')
    .option('--seed <text>', 'decides every delay and accident')
    .option('--time-scale <factor>', 'multiplies every simulated duration: 0.05 = 20 times faster')
    .option('--world <file>', 'what is there at the start')
    .option('--faults <file>', 'what goes wrong; read again on SIGHUP')
    .option('--journal <file>', 'where everything that happens is written')
    .option('--state <file>', 'goes on from there, and is saved at the end')
    .option('--to <url>', 'where a transport leads: redis://, postgres://, http://, https://')
    .option('--ca <file>', 'who signed the certificate there')
    .option('--at <file>', 'the cluster that somebody else works on: the line that its simulator printed')
    .option('--who <kind>', 'person, or deployment: another Hatchery')
    .option('--range <from-to>', 'VMIDs that the product hands out; of a deployment: its own')
    .option('--pool <pool>', 'of the product; of a deployment: its own')
    .option('--name <name>', 'of the account that is made for somebody else')
    .option('--every <seconds>', 'between two deeds, on average')
    .action(async (which: string, { json: _json, ...options }: Record<string, string>) => {
      const args = Object.entries(options).flatMap(([name, value]) => [OPTION_OF(name), value]);
      cli.exitCode = await cli.world.runProgram(PROGRAM, [which, ...args]);
    });

/** Commander names options in camel case. */
const OPTION_OF = (name: string): string =>
  `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
