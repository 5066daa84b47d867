import { z } from 'zod';

/** What may stand in a place of an answer: `digits` is a number that came as text, which loosely typed servers do. */
export const shapeType = z.enum([
  'object',
  'array',
  'string',
  'digits',
  'integer',
  'number',
  'boolean',
  'null',
]);
export type ShapeType = z.infer<typeof shapeType>;

const place = z.object({
  /** `[].vmid`; parts of keys that name things are `*`. */
  at: z.string(),
  types: z.array(shapeType),
  /** Some of the objects there do not have it. */
  isOptional: z.boolean(),
  /** Words that a manual lists too, of keys such as `status`; never names. */
  words: z.array(z.string()).optional(),
});

/** Answers of a cluster without any value of its own: to be compared with those of another, or of a simulated one. */
export const clusterRecording = z.object({
  format: z.literal(1),
  kind: z.string(),
  releases: z.array(z.string()),
  /** 1 on a real cluster: a simulated one may be faster. */
  timeScale: z.number(),
  counts: z.object({ nodes: z.number().int(), guests: z.number().int() }),
  calls: z.array(
    z.object({
      /** `GET /nodes/{node}/status`. */
      call: z.string(),
      status: z.number().int(),
      shape: z.array(place),
      timing: z.object({ reads: z.number().int(), medianMs: z.number(), p95Ms: z.number() }),
    }),
  ),
  /** Refusals that were provoked by harmless reads. */
  refusals: z.array(
    z.object({
      case: z.string(),
      call: z.string(),
      status: z.number().int(),
      reason: z.string(),
      body: z.enum(['empty', 'json', 'text']),
      message: z.string(),
      errors: z.record(z.string(), z.string()),
      contentType: z.string(),
      connection: z.string(),
    }),
  ),
});
export type ClusterRecording = z.infer<typeof clusterRecording>;
export type RecordedPlace = z.infer<typeof place>;

export interface RecordingDifference {
  readonly subject: string;
  readonly detail: string;
}

/** Times that differ by less are the same: a busy moment alone does more. */
const TIME_FACTOR = 3;

/** What differs between two recordings, in the words "left" and "right". Pure. */
export function compareRecordings(left: ClusterRecording, right: ClusterRecording): RecordingDifference[] {
  const comparesTimes = left.timeScale === 1 && right.timeScale === 1;
  return [
    ...pairs(left.calls, right.calls, ({ call }) => call).flatMap(([call, a, b]) =>
      compareCalls(call, a, b, comparesTimes),
    ),
    ...pairs(left.refusals, right.refusals, (one) => one.case).flatMap(([name, a, b]) =>
      compareRefusals(name, a, b),
    ),
  ];
}

type RecordedCall = ClusterRecording['calls'][number];
type Refusal = ClusterRecording['refusals'][number];

function pairs<T>(
  left: readonly T[],
  right: readonly T[],
  keyOf: (item: T) => string,
): [string, T | undefined, T | undefined][] {
  const of = (items: readonly T[]): Map<string, T> => new Map(items.map((item) => [keyOf(item), item]));
  const [a, b] = [of(left), of(right)];
  return [...new Set([...a.keys(), ...b.keys()])].map((key) => [key, a.get(key), b.get(key)]);
}

function compareCalls(
  call: string,
  a: RecordedCall | undefined,
  b: RecordedCall | undefined,
  comparesTimes: boolean,
): RecordingDifference[] {
  const differ = (detail: string): RecordingDifference => ({ subject: call, detail });
  if (a === undefined || b === undefined) return [differ(`only ${a ? 'left' : 'right'} has it`)];
  if (a.status !== b.status) return [differ(`status ${a.status} left, ${b.status} right`)];
  const found = pairs(a.shape, b.shape, ({ at }) => at).flatMap(([at, x, y]) => comparePlaces(at, x, y));
  const [slow, fast] = [a.timing.medianMs, b.timing.medianMs].toSorted((x, y) => y - x) as [number, number];
  if (comparesTimes && slow > fast * TIME_FACTOR && slow - fast > 20)
    found.push(`median ${a.timing.medianMs} ms left, ${b.timing.medianMs} ms right`);
  return found.map(differ);
}

/** What is in one only is no difference when the other has nothing around it: an empty list shows no keys. */
function comparePlaces(at: string, a: RecordedPlace | undefined, b: RecordedPlace | undefined): string[] {
  if (a === undefined || b === undefined) {
    const only = a ?? b;
    return [
      `${at || 'the answer'}: only ${a ? 'left' : 'right'} (${only!.types.join(' or ')}${only!.isOptional ? ', not always' : ''})`,
    ];
  }
  const [x, y] = [a.types.join(' or '), b.types.join(' or ')];
  return x === y ? [] : [`${at || 'the answer'}: ${x} left, ${y} right`];
}

function compareRefusals(
  name: string,
  a: Refusal | undefined,
  b: Refusal | undefined,
): RecordingDifference[] {
  if (a === undefined || b === undefined)
    return [{ subject: name, detail: `only ${a ? 'left' : 'right'} has it` }];
  const seen = (one: Refusal): [string, string][] => [
    ['status', String(one.status)],
    ['reason', one.reason],
    ['body', one.body],
    ['message', one.message],
    ['errors', JSON.stringify(one.errors)],
    ['content type', one.contentType],
    ['connection', one.connection],
  ];
  const right = new Map(seen(b));
  return seen(a)
    .filter(([what, text]) => right.get(what) !== text)
    .map(([what, text]) => ({
      subject: name,
      detail: `${what}: "${text}" left, "${right.get(what)}" right`,
    }));
}
