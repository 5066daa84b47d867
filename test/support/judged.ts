import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DataSource } from 'typeorm';
import { ExportReads } from '../../src/app/export/export-reads.js';
import { checkJournal, type CheckOptions } from '../../src/simulators/journal/check.js';
import type { JournalVerdict } from '../../src/simulators/journal/verdict.js';
import type { StepWorld, TestMachine } from './step-world.js';

/** The verdict on a world by its journal, the submits made, and one export of the product. */
export async function judged(
  world: Pick<StepWorld, 'options' | 'site'>,
  machines: readonly TestMachine[],
  options: CheckOptions = {},
): Promise<JournalVerdict> {
  const folder = await mkdtemp(join(tmpdir(), 'hatchery-judged-'));
  try {
    const [exportFile, submitsFile] = [join(folder, 'export.ndjson'), join(folder, 'submits.ndjson')];
    await writeFile(exportFile, lines(await exported(world)));
    await writeFile(submitsFile, lines(machines.map(({ batch, name }) => ({ batch, machines: [name] }))));
    const { file } = world.site.simulators.context.journal;
    return await checkJournal(file, { exportFile, submitsFile, ...options });
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** As `hatchery admin export` gives it. */
async function exported({ options }: Pick<StepWorld, 'options'>): Promise<readonly object[]> {
  const source = await new DataSource({ type: 'postgres', url: options.databaseUrl }).initialize();
  try {
    const deployment = { id: options.deployment, name: 'test' };
    const rows: object[] = [];
    for await (const page of new ExportReads(source, { deployment }).pages()) rows.push(...page);
    return rows;
  } finally {
    await source.destroy();
  }
}

const lines = (rows: readonly object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
