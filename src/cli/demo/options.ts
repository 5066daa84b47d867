import { parseArgs } from 'node:util';
import { HatcheryError } from '../../core/errors.js';

export interface DemoOptions {
  /** End when the batch has come to rest, with one JSON object on stdout when `json`. */
  readonly exit: boolean;
  readonly json: boolean;
  readonly deleteAfterwards: boolean;
  /** Database and world go on from the last `--keep`. */
  readonly keep: boolean;
  readonly students: number | undefined;
  readonly blueprint: string;
  readonly seed: string;
  readonly timeScale: number;
  readonly workers: number;
}

export const DEMO_USAGE = `Starts a whole Hatchery on a simulated cluster and gives a class its machines.

npm run demo -- [options]
  --students N      machines to make (default: the whole example class, 120)
  --blueprint B     what they are made from (default: student-desktop)
  --workers N       worker processes (default: 2)
  --time-scale F    speed of the simulated cluster: 0.05 = 20 times faster than real (default: 0.05)
  --seed S          decides every delay and every accident of the simulated cluster (default: 1)
  --delete          delete the machines again at the end
  --keep            go on with the database and the cluster of the last --keep
  --exit            end when the class is served; exit code 0 only if every machine is ready
  --json            one JSON object on stdout at the end
`;

/** Reads the demo's command line. Errors: `settings-invalid` in one sentence. `undefined` = help was asked for. */
export function readDemoOptions(argv: readonly string[]): DemoOptions | undefined {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean', default: false } as const;
  const { values } = parse(() =>
    parseArgs({
      args: [...argv],
      options: {
        help: flag,
        exit: flag,
        json: flag,
        delete: flag,
        keep: flag,
        students: text,
        blueprint: { ...text, default: 'student-desktop' },
        seed: { ...text, default: '1' },
        'time-scale': { ...text, default: '0.05' },
        workers: { ...text, default: '2' },
      },
    }),
  );
  if (values.help) return undefined;
  return {
    exit: values.exit,
    json: values.json,
    deleteAfterwards: values.delete,
    keep: values.keep,
    students: values.students === undefined ? undefined : whole('--students', values.students, 1, 5000),
    blueprint: values.blueprint,
    seed: values.seed,
    timeScale: inRange('--time-scale', values['time-scale'], 0.001, 100),
    workers: whole('--workers', values.workers, 1, 32),
  };
}

function parse<T>(read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw refusal(cause instanceof Error ? cause.message : String(cause));
  }
}

function whole(option: string, text: string, from: number, to: number): number {
  const value = inRange(option, text, from, to);
  if (!Number.isInteger(value)) throw refusal(`${option} must be a whole number`);
  return value;
}

function inRange(option: string, text: string, from: number, to: number): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= from && value <= to))
    throw refusal(`${option} must be a number from ${from} to ${to}`);
  return value;
}

const refusal = (why: string) =>
  new HatcheryError('settings-invalid', `Unable to start the demo: ${why}`, {
    hint: 'npm run demo -- --help lists the options.',
  });
