import type { RecordedPlace, ShapeType } from '../../../core/cluster-recording.js';

/** Keys whose values are words of the manual, when they look like words. */
const WORD_KEYS = new Set([
  ...[
    'type',
    'status',
    'hastate',
    'lock',
    'plugintype',
    'content',
    'format',
    'level',
    'qmpstatus',
    'subtype',
  ],
  ...['mode', 'public-key-type', 'ip-address-type', 'ostype', 'bios', 'scsihw', 'machine'],
]);
const WORD = /^[a-z][a-z0-9,_-]{0,30}$/i;
const MAX_WORDS = 12;

interface Found {
  readonly types: Set<ShapeType>;
  readonly words: Set<string>;
  count: number;
}

/** Keys and types of an answer, with nothing of what stands in it. */
export function shapeOf(value: unknown): RecordedPlace[] {
  const found = new Map<string, Found>();
  walk(value, '', undefined, found);
  return [...found]
    .map(([at, { types, words, count }]) => ({
      at,
      types: [...types].sort(),
      isOptional: count < (found.get(parentOf(at))?.count ?? count),
      ...(words.size > 0 && words.size <= MAX_WORDS && { words: [...words].sort() }),
    }))
    .sort((a, b) => (a.at < b.at ? -1 : 1));
}

function walk(value: unknown, at: string, key: string | undefined, found: Map<string, Found>): void {
  const entry = found.get(at) ?? { types: new Set<ShapeType>(), words: new Set<string>(), count: 0 };
  found.set(at, entry);
  entry.types.add(typeOf(value));
  entry.count += 1;
  if (typeof value === 'string' && key !== undefined && WORD_KEYS.has(key) && WORD.test(value))
    entry.words.add(value);
  if (Array.isArray(value)) for (const item of value) walk(item, `${at}[]`, key, found);
  else if (typeof value === 'object' && value !== null)
    for (const [name, inner] of Object.entries(value)) walk(inner, `${at}.${plainKey(name)}`, name, found);
}

/** Objects are also kept under the names of things: paths of the access tree, numbered devices. */
function plainKey(name: string): string {
  if (name.startsWith('/')) return '*';
  const device = /^([a-z]+)[0-9]+$/.exec(name);
  if (device) return `${device[1]}*`;
  return /^[A-Za-z][A-Za-z0-9_.-]{0,40}$/.test(name) ? name : '*';
}

const parentOf = (at: string): string => at.replace(/(\[\]|\.[^.[\]]*)$/, '');

function typeOf(value: unknown): ShapeType {
  if (value === null || value === undefined) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'string') return /^-?\d+(\.\d+)?$/.test(value) ? 'digits' : 'string';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  return typeof value === 'boolean' ? 'boolean' : 'object';
}
