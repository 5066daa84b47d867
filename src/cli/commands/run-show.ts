import type { Command } from 'commander';
import type { Client } from '../../client/client/index.js';
import { getRun, getTaskLog } from '../../client/sdk.gen.js';
import type { RunDetail, TaskLog } from '../../client/types.gen.js';
import { HatcheryError } from '../../core/errors.js';
import { answer } from '../api.js';
import { apiCommand, idOf, type Cli } from '../cli.js';
import { runText } from '../render/run.js';

export const runShow = (cli: Cli): Command =>
  apiCommand(
    'show',
    'One run: why it stands still, its steps, attempts and remote tasks, what was made outside, and who did what to it.',
    'hatchery run show 01994a3e-0000-7000-8000-000000000001',
  )
    .argument('<run>', 'id')
    .action(async (id: string) => {
      const api = await cli.api();
      const run = await answer(getRun({ client: api, path: { id: idOf('run', id) } }));
      const logs = await logsOfFailed(api, run);
      cli.show({ ...run, taskLogs: logs }, () => runText(run, logs, cli.tableColumns));
    });

/** The end of the log of each step's last failed task. Without it the run is shown all the same: nodes forget, and teachers may not read it. */
async function logsOfFailed(api: Client, run: RunDetail): Promise<TaskLog[]> {
  const tasks = run.steps.flatMap(({ state, attempts }) => {
    const failed = attempts.filter(({ task }) => task !== null).at(-1);
    return state === 'done' || state === 'undone' || !failed?.task ? [] : [failed.task];
  });
  const logs: TaskLog[] = [];
  for (const task of tasks)
    try {
      logs.push(await answer(getTaskLog({ client: api, path: { id: run.id }, query: { task } })));
    } catch (error) {
      if (!(error instanceof HatcheryError)) throw error;
    }
  return logs;
}
