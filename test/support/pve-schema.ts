import { existsSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe } from 'vitest';
import { z } from 'zod';

/** The official API schema says numbers as text in places. */
const number = z.union([z.number(), z.string().transform(Number)]).optional();
const flag = z
  .union([z.number(), z.string(), z.boolean()])
  .optional()
  .transform((value) => value === 1 || value === '1' || value === true);

const propertySchema = z.looseObject({
  type: z.string().default('string'),
  optional: flag,
  enum: z.array(z.union([z.string(), z.number()]).transform(String)).nullish(),
  minimum: number,
  maximum: number,
  minLength: number,
  maxLength: number,
  pattern: z.string().optional(),
  format: z.union([z.string(), z.record(z.string(), z.unknown())]).optional(),
  requires: z.string().optional(),
  get items() {
    return propertySchema.optional();
  },
  get properties() {
    return z.record(z.string(), propertySchema).optional();
  },
});
export type SchemaProperty = z.output<typeof propertySchema>;

const callSchema = z.looseObject({
  allowtoken: flag,
  protected: flag,
  proxyto: z.string().nullish(),
  permissions: z.looseObject({ user: z.string().optional() }).optional(),
  parameters: z.looseObject({ properties: z.record(z.string(), propertySchema).default({}) }).prefault({}),
  returns: propertySchema.optional(),
});
export type SchemaCall = z.output<typeof callSchema>;

const nodeSchema = z.looseObject({
  path: z.string(),
  info: z.record(z.string(), callSchema).default({}),
  get children() {
    return z.array(nodeSchema).optional();
  },
});
type SchemaNode = z.output<typeof nodeSchema>;

type Version = '8.4' | '9.1';
/** Environment variables with the path of the file. */
const SETTINGS = { '9.1': 'PVE_API_SCHEMA', '8.4': 'PVE_API_SCHEMA_84' } as const;

/** The official API schema of Proxmox VE, which stays outside of this repository. */
export class PveSchema {
  readonly #paths: ReadonlyMap<string, SchemaNode>;

  private constructor(roots: readonly SchemaNode[]) {
    const all = (nodes: readonly SchemaNode[]): SchemaNode[] =>
      nodes.flatMap((node) => [node, ...all(node.children ?? [])]);
    this.#paths = new Map(all(roots).map((node) => [node.path, node]));
  }

  /** `file` may be gzipped. */
  private static read(file: string): PveSchema {
    const bytes = readFileSync(file);
    const text = (file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8');
    return new PveSchema(z.array(nodeSchema).parse(JSON.parse(text)));
  }

  /** `body` gets the schema of each version whose setting names a file; it is skipped, with a word, for the others. */
  static compare(name: string, body: (schema: PveSchema, version: Version) => void): void {
    for (const version of ['9.1', '8.4'] as const) {
      const file = process.env[SETTINGS[version]] ?? '';
      const isThere = existsSync(file);
      const words = isThere ? '' : `: not compared, ${SETTINGS[version]} names no file`;
      describe.skipIf(!isThere)(
        `${name} and the official API schema of Proxmox VE ${version}${words}`,
        () => {
          body(isThere ? PveSchema.read(file) : new PveSchema([]), version);
        },
      );
    }
  }

  call(method: string, path: string): SchemaCall | undefined {
    return this.#paths.get(path)?.info[method];
  }

  /** The path with placeholders that a real path means, and their values. Fixed parts win over placeholders. */
  locate(path: string): { path: string; values: Record<string, string> } | undefined {
    const given = path.split('/').slice(1).map(decodeURIComponent);
    const fits = [...this.#paths.keys()].flatMap((known) => {
      const parts = known.split('/').slice(1);
      const isSame =
        parts.length === given.length &&
        parts.every((part, index) => part.startsWith('{') || part === given[index]);
      return isSame ? [{ known, parts }] : [];
    });
    const [best] = fits.sort((a, b) => placeholders(a.parts) - placeholders(b.parts));
    return (
      best && {
        path: best.known,
        values: Object.fromEntries(
          best.parts.flatMap((part, index) =>
            part.startsWith('{') ? [[part.slice(1, -1), given[index] ?? '']] : [],
          ),
        ),
      }
    );
  }
}

function placeholders(parts: readonly string[]): number {
  return parts.filter((part) => part.startsWith('{')).length;
}

/** The property of this name; `net0` is `net[n]`. */
export function propertyNamed(
  properties: Readonly<Record<string, SchemaProperty>>,
  name: string,
): SchemaProperty | undefined {
  return properties[name] ?? properties[name.replace(/[0-9]+$/, '[n]')];
}

/** Why the schema refuses this text as the value of a parameter; `undefined` = it does not. */
export function problemOfValue(property: SchemaProperty, value: string): string | undefined {
  const { type, minimum, maximum, minLength, maxLength, pattern, format } = property;
  if (type === 'boolean' && !/^[01]$/.test(value)) return 'is no boolean';
  if (type === 'integer' && !/^-?\d+$/.test(value)) return 'is no integer';
  if (type === 'number' && !/^-?\d+(\.\d+)?$/.test(value)) return 'is no number';
  if (property.enum && !property.enum.includes(value)) return `is none of ${property.enum.join(', ')}`;
  if (minimum !== undefined && Number(value) < minimum) return `is less than ${minimum}`;
  if (maximum !== undefined && Number(value) > maximum) return `is more than ${maximum}`;
  if (minLength !== undefined && value.length < minLength) return 'is too short';
  if (maxLength !== undefined && value.length > maxLength) return 'is too long';
  // Perl's patterns: what JavaScript cannot read is not tested.
  if (pattern !== undefined && !pattern.includes('(?^') && !new RegExp(`^(?:${pattern})$`).test(value))
    return `does not match ${pattern}`;
  return typeof format === 'object' ? problemOfKeys(format, value) : undefined;
}

/** A property string may only hold the keys of its format. */
function problemOfKeys(format: Readonly<Record<string, unknown>>, value: string): string | undefined {
  for (const part of value.split(',')) {
    const key = part.includes('=') ? part.slice(0, part.indexOf('=')) : undefined;
    if (key === undefined || key in format) continue;
    return `has the unknown key ${key}`;
  }
  return undefined;
}
