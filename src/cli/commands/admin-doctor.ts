import type { Command } from 'commander';
import { doctor } from '../../client/sdk.gen.js';
import type { DoctorReport } from '../../client/types.gen.js';
import { EXIT } from '../../core/errors.js';
import { terminalText, padText, textWidth } from '../../core/terminal-text.js';
import { answer } from '../api.js';
import { apiCommand, countText, type Cli } from '../cli.js';
import { styleFor, type Style } from '../render/style.js';

export const adminDoctor = (cli: Cli): Command =>
  apiCommand(
    'doctor',
    'Looks at everything that has to work: stores, workers, clusters, services, sweeps, what stands still. Exit code 6: something failed (admins).',
    'hatchery admin doctor',
  ).action(async () => {
    const report = await look(cli);
    const style = styleFor(cli.world.terminal.outColor);
    cli.show(report, () => doctorText(report, style));
    if (report.verdict === 'failed') cli.exitCode = EXIT.incomplete;
  });

/** A service whose database is away knows nobody who asks; it still says which of its stores answer. */
async function look(cli: Cli): Promise<DoctorReport> {
  const api = await cli.api();
  try {
    return await answer(doctor({ client: api }));
  } catch (error) {
    const stores = await storesOf(cli);
    if (stores.every(({ verdict }) => verdict === 'ok')) throw error;
    return { verdict: 'failed', at: new Date().toISOString(), findings: stores };
  }
}

/** Those that the service says are up or down; none when it does not answer. */
async function storesOf(cli: Cli): Promise<DoctorReport['findings']> {
  const { url } = await cli.access();
  const response = await cli.world.fetch(new URL('/health/ready', url)).catch(() => undefined);
  // It takes as long to load as the whole command line, which no command waits for that has no use for it.
  const { z } = await import('zod');
  const ready = z.object({ details: z.record(z.string(), z.object({ status: z.string() })) });
  const body = ready.safeParse(await response?.json().catch(() => undefined));
  return Object.entries(body.data?.details ?? {}).map(([check, { status }]) =>
    status === 'up'
      ? { check, verdict: 'ok', detail: 'it answers', remedy: null }
      : {
          check,
          verdict: 'failed',
          detail: 'it does not answer the service',
          remedy:
            'Bring it back; nothing is lost, and work goes on by itself. The service’s log names the reason.',
        },
  );
}

/** What is worst first; a remedy stands below each that is not well. */
function doctorText({ findings }: DoctorReport, style: Style): string {
  const width = Math.max(...findings.map(({ check }) => textWidth(check)));
  const count = (verdict: string): number => findings.filter((one) => one.verdict === verdict).length;
  const lines = findings.flatMap(({ verdict, check, detail, remedy }) => {
    const word = padText(verdict === 'failed' ? 'FAILED' : verdict, 7);
    return [
      `${verdict === 'failed' ? style.bad(word) : word}  ${padText(terminalText(check), width)}  ${terminalText(detail)}`,
      ...(remedy === null ? [] : [`${' '.repeat(11 + width)}-> ${terminalText(remedy)}`]),
    ];
  });
  const [failed, warnings] = [count('failed'), count('warning')];
  const sum =
    failed + warnings === 0 ? 'Everything is well.' : `${failed} failed, ${countText(warnings, 'warning')}.`;
  return `${[...lines, '', sum].join('\n')}\n`;
}
