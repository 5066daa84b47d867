import { readFile } from 'node:fs/promises';
import { z } from 'zod';

const machineSchema = z.object({
  row: z.literal('machine'),
  id: z.string(),
  batch: z.string(),
  name: z.string(),
  vmid: z.number().int(),
  mac: z.string(),
  address: z.string().nullish(),
  login: z.string(),
  state: z.string(),
  run: z.string().nullable(),
});
export type ExportedMachine = z.infer<typeof machineSchema>;

const runSchema = z.object({ row: z.literal('run'), id: z.string(), machine: z.string(), state: z.string() });

const reservationSchema = z.object({
  row: z.literal('reservation'),
  kind: z.string(),
  value: z.string(),
  note: z.string().nullable(),
});

const effectSchema = z.object({
  row: z.literal('effect'),
  run: z.string(),
  kind: z.string(),
  key: z.string(),
  state: z.string(),
});

const rowSchema = z.discriminatedUnion('row', [
  z.object({ row: z.literal('export'), v: z.literal(1) }),
  machineSchema,
  runSchema,
  reservationSchema,
  effectSchema,
  z.object({ row: z.literal('end'), rows: z.number().int() }),
]);

/** What the product says it has: the rows of `hatchery admin export`. */
export interface Export {
  readonly machines: readonly ExportedMachine[];
  /** State of every run, by its id. */
  readonly runs: ReadonlyMap<string, string>;
  /** VMIDs that the product set aside and tells people why. */
  readonly notedVmids: ReadonlySet<number>;
  /** What a person let go of: it stays where it is, and nobody removes it. */
  readonly released: readonly Released[];
}

export interface Released {
  readonly machine: string | undefined;
  readonly kind: string;
  /** What it names there. */
  readonly key: string;
}

const submitSchema = z.object({
  /** `Idempotency-Key`; the same key twice is one submit. */
  key: z.string().optional(),
  /** Name of the batch; left out = names of machines are unique. */
  batch: z.string().optional(),
  /** Names of the machines that were asked for. */
  machines: z.array(z.string()),
});
export type Submit = z.infer<typeof submitSchema>;

const workSchema = z.strictObject({
  items: z.number().int().min(0),
  /** Ids of the fault rules that were given to the simulators. */
  faults: z.array(z.string()).default([]),
  /** Workers that were to be killed, and those that held a step when they were. */
  kills: z.number().int().min(0).default(0),
  killsLanded: z.number().int().min(0).default(0),
  /** Deeds for which others had the time, had each been done at once: by account (`foreign-<name>@pve`). */
  deeds: z.record(z.string(), z.number().min(0)).default({}),
});
/** What a run was meant to go through. */
export type Work = z.input<typeof workSchema>;

export async function readExport(file: string): Promise<Export> {
  const rows = await readList(file, rowSchema);
  const last = rows.at(-1);
  if (last?.row !== 'end' || last.rows !== rows.length - 2)
    throw new Error(`${file} is no whole export: export once more`);
  const of = <K extends (typeof rows)[number]['row']>(kind: K) =>
    rows.filter((row): row is Extract<(typeof rows)[number], { row: K }> => row.row === kind);
  const machineOf = new Map(of('run').map(({ id, machine }) => [id, machine]));
  return {
    machines: of('machine'),
    runs: new Map(of('run').map(({ id, state }) => [id, state])),
    notedVmids: new Set(
      of('reservation')
        .filter(({ kind, note }) => kind === 'vmid' && note !== null)
        .map(({ value }) => Number(value)),
    ),
    released: of('effect')
      .filter(({ state }) => state === 'released')
      .map(({ run, kind, key }) => ({ machine: machineOf.get(run), kind, key })),
  };
}

export const readSubmits = (file: string): Promise<Submit[]> => readList(file, submitSchema);

export async function readWork(file: string): Promise<Work> {
  return workSchema.parse(JSON.parse(await readFile(file, 'utf8')));
}

/** A JSON list, or one JSON object per line. */
async function readList<T>(file: string, item: z.ZodType<T>): Promise<T[]> {
  const text = (await readFile(file, 'utf8')).trim();
  const rows: unknown = text.startsWith('[')
    ? JSON.parse(text)
    : text
        .split('\n')
        .filter((line) => line.trim() !== '')
        .map((line): unknown => JSON.parse(line));
  return z.array(item).parse(rows);
}
