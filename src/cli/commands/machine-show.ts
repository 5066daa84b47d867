import type { Command } from 'commander';
import { apiCommand, type Cli } from '../cli.js';
import { findMachine } from '../find-machine.js';
import { factLines, timeText } from '../render/facts.js';
import { readyText } from '../render/ready.js';

export const machineShow = (cli: Cli): Command =>
  apiCommand('show', 'One machine.', 'hatchery machine show vm-jdupont')
    .argument('<machine>', 'name or id')
    .action(async (nameOrId: string) => {
      const machine = await findMachine(await cli.api(), nameOrId);
      cli.show(machine, () => {
        const { error } = machine;
        const facts = factLines({
          machine: machine.name,
          id: machine.id,
          state: machine.state,
          owner: `${machine.login} (${machine.firstName} ${machine.lastName})`,
          batch: machine.batch.name,
          guest: `${machine.vmid} on ${machine.node}, cluster ${machine.cluster}`,
          mac: machine.mac,
          address: machine.address,
          link: machine.link,
          expected: readyText(machine),
          created: timeText(machine.createdAt),
          ready: timeText(machine.readyAt),
          deleted: timeText(machine.deletedAt),
          error: error && `${error.message} (${error.code})`,
          hint: error?.hint,
          next: error && `hatchery run list --machine ${machine.id}`,
        });
        return `${facts.join('\n')}\n`;
      });
    });
