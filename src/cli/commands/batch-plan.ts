import type { Command } from 'commander';
import { planBatch } from '../../client/sdk.gen.js';
import { ERRORS, EXIT, type ErrorCode } from '../../core/errors.js';
import { answer } from '../api.js';
import { apiCommand, flag, type Cli } from '../cli.js';
import { planText } from '../render/plan.js';
import { rosterFile } from '../roster-file.js';

export const batchPlan = (cli: Cli): Command =>
  apiCommand(
    'plan',
    'What create would do: machines, room and conflicts. Writes and reserves nothing.',
    'hatchery batch plan class.csv --blueprint student-desktop --name l3-info',
  )
    .argument('<roster>', 'class list, CSV or XLSX')
    .requiredOption('--blueprint <name>', 'what the machines are made from (required)')
    .requiredOption('--name <name>', 'name of the batch (required)')
    .option('--skip-existing', 'leave out people who already have such a machine')
    .action(async (path: string, { blueprint, name, skipExisting }: PlanOptions) => {
      const roster = await rosterFile(path);
      const body = { roster, blueprint, name, skipExisting: flag(skipExisting) };
      const plan = await answer(planBatch({ client: await cli.api(), body }));
      cli.show(plan, () => planText(plan, cli.tableColumns));
      if (plan.refusal) cli.exitCode = ERRORS[plan.refusal.code as ErrorCode]?.exit ?? EXIT.conflict;
    });

interface PlanOptions {
  readonly blueprint: string;
  readonly name: string;
  readonly skipExisting?: true;
}
