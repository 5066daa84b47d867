import type { Command } from 'commander';
import { command, type Cli } from '../cli.js';
import { recordingFile, recordings } from '../recording-file.js';
import { differencesText } from '../render/recording.js';

export const clusterCompare = (cli: Cli): Command =>
  command(
    'compare',
    'Prints what differs between two recordings, e.g. of a real and of the simulated cluster.',
    'hatchery cluster compare real.json simulated.json',
  )
    .argument('<left>', 'file of hatchery cluster record')
    .argument('<right>', 'another one')
    .action(async (left: string, right: string) => {
      const { compareRecordings } = await recordings();
      const differences = compareRecordings(await recordingFile(left), await recordingFile(right));
      cli.show({ differences }, () => differencesText(differences, left, right));
    });
