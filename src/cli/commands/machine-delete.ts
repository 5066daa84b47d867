import type { Command } from 'commander';
import type { Client } from '../../client/client/index.js';
import { deleteMachine, getMachine } from '../../client/sdk.gen.js';
import type { Machine } from '../../client/types.gen.js';
import { EXIT } from '../../core/errors.js';
import { terminalText } from '../../core/terminal-text.js';
import { answer } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { confirmByName } from '../confirm.js';
import { findMachine } from '../find-machine.js';

const POLL_MS = 1_000;

export const machineDelete = (cli: Cli): Command =>
  apiCommand(
    'delete',
    'Undoes everything that was made for a machine and waits for the end. Exit code 6: something is left.',
    'hatchery machine delete vm-jdupont --yes',
  )
    .argument('<machine>', 'name or id')
    .option('--yes', 'do not ask for the name')
    .option('--no-wait', 'come back at once')
    .action(async (nameOrId: string, { yes, wait }: { yes?: true; wait: boolean }) => {
      const api = await cli.api();
      const found = await findMachine(api, nameOrId);
      if (!yes)
        await confirmByName(cli.world.terminal, `the machine ${found.name} of ${found.login}`, found.name);
      const accepted = await answer(deleteMachine({ client: api, path: { id: found.id } }));
      const machine = wait ? await untilAtRest(cli, api, accepted) : accepted;
      cli.show(machine, () => `${machine.name} is ${machine.state}.\n`);
      if (!wait || machine.state === 'deleted') return;
      cli.exitCode = EXIT.incomplete;
      if (machine.error) cli.say(terminalText(`${machine.error.message} (${machine.error.code})`));
      cli.say(`See what is left with: hatchery run list --machine ${machine.id}`);
    });

async function untilAtRest(cli: Cli, api: Client, accepted: Machine): Promise<Machine> {
  let machine = accepted;
  while (machine.state !== 'deleted' && machine.state !== 'parked' && machine.state !== 'failed') {
    await cli.world.sleep(POLL_MS);
    machine = await answer(getMachine({ client: api, path: { id: accepted.id } }));
  }
  return machine;
}
