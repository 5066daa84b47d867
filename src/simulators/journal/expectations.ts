import { readFile } from 'node:fs/promises';
import { z } from 'zod';

const machineSchema = z.object({
  name: z.string(),
  vmid: z.number().int(),
  mac: z.string(),
  address: z.string().nullish(),
  login: z.string(),
  state: z.string(),
});
/** What the product says it has: the rows of `hatchery admin export`. */
export type ExportedMachine = z.infer<typeof machineSchema>;

const submitSchema = z.object({
  /** `Idempotency-Key`; the same key twice is one submit. */
  key: z.string().optional(),
  /** Names of the machines that were asked for and must be there in the end. */
  machines: z.array(z.string()),
});
export type Submit = z.infer<typeof submitSchema>;

export const readExport = (file: string): Promise<ExportedMachine[]> => readList(file, machineSchema);
export const readSubmits = (file: string): Promise<Submit[]> => readList(file, submitSchema);

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
