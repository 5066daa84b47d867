import { writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { recordCluster } from '../../client/sdk.gen.js';
import { answer } from '../api.js';
import { apiCommand, jsonText, type Cli } from '../cli.js';
import { recordingFile, recordings } from '../recording-file.js';
import { differencesText } from '../render/recording.js';

interface RecordOptions {
  readonly cluster: string;
  readonly out?: string;
  readonly compare?: string;
}

export const clusterRecord = (cli: Cli): Command =>
  apiCommand(
    'record',
    'Records how a cluster answers: shapes, times and refusals of harmless reads, nothing that belongs to the site (admins).',
    'hatchery cluster record --cluster main --out main.json',
  )
    .requiredOption('--cluster <name>', 'the cluster')
    .option('--out <file>', 'where the recording goes (else it is printed)')
    .option('--compare <file>', 'prints what differs from this recording instead')
    .action(async ({ cluster, out, compare }: RecordOptions) => {
      const { clusterRecording, compareRecordings } = await recordings();
      const other = compare === undefined ? undefined : await recordingFile(compare);
      const given = await answer(recordCluster({ client: await cli.api(), path: { name: cluster } }));
      const recording = clusterRecording.parse(given);
      if (out !== undefined) {
        await writeFile(out, jsonText(recording));
        cli.say(
          `Recorded ${recording.calls.length} calls and ${recording.refusals.length} refusals to ${out}. Read it before you pass it on.`,
        );
      }
      if (other !== undefined) {
        const differences = compareRecordings(recording, other);
        cli.show({ differences }, () => differencesText(differences, cluster, compare!));
      } else if (out === undefined) cli.show(recording, () => jsonText(recording));
    });
