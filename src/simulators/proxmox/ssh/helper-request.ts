import { z } from 'zod';

const VERSION = 2;
const MOST = 200;
const storageName = z.string().regex(/^[A-Za-z][A-Za-z0-9._-]{0,99}$/);
const file = {
  place: z.enum(['snippets', 'hooks', 'arguments', 'reports']),
  storage: storageName.optional(),
  name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/),
};
const container = { node: z.string(), vmid: z.number().int().min(100).max(999_999_999) };
const rawLine = z.tuple([
  z.string().regex(/^lxc\.[a-z0-9_.-]{1,100}$/),
  z
    .string()
    .min(1)
    .max(4096)
    // oxlint-disable-next-line no-control-regex -- they are what is refused
    .regex(/^(?!\s)[^\u0000-\u001f\u007f]*(?<!\s)$/),
]);

/** What `hatchery-node` version 2 can be asked. Fields that it does not know are passed over. */
export const helperRequest = z.discriminatedUnion('op', [
  z.object({ op: z.literal('describe') }),
  z.object({ op: z.literal('config.read'), ...container }),
  z.object({
    op: z.literal('config.raw-lines'),
    ...container,
    digest: z.string(),
    lines: z.array(rawLine).max(500),
  }),
  z.object({
    op: z.literal('file.put'),
    ...file,
    mode: z.enum(['private', 'readable', 'runnable', 'guest']),
    keeps: z.boolean().default(false),
    sha256: z.string(),
    content: z.base64(),
  }),
  z.object({ op: z.literal('file.read'), ...file }),
  z.object({ op: z.literal('file.remove'), ...file }),
  z.object({ op: z.literal('snippets.list'), storage: storageName }),
  z.object({ op: z.literal('reports.read'), names: z.array(file.name).max(1000) }),
  z.object({ op: z.literal('id-ranges') }),
  z.object({ op: z.literal('path.resolve'), path: z.string().max(4096).regex(/^\//) }),
]);
export type HelperRequest = z.infer<typeof helperRequest>;
export type FileRequest = Extract<HelperRequest, { op: `file.${string}` }>;

/** Ends a request without any effect, with the reason that the program gives. */
export class HelperRefusal extends Error {
  constructor(
    readonly reason: string,
    message: string,
    readonly more: Readonly<Record<string, unknown>> = {},
  ) {
    super(message);
  }
}

/**
 * The requests in what came on stdin, each as it is or as the refusal that it gets. `node` is the one that all of them name.
 * Errors: `HelperRefusal` malformed, outdated.
 */
export function readRequests(input: Buffer): (HelperRequest | HelperRefusal)[] {
  let json: unknown;
  try {
    json = JSON.parse(input.toString('utf8'));
  } catch {
    throw new HelperRefusal('malformed', 'malformed JSON string');
  }
  const asked = json as { helper?: unknown; node?: unknown; requests?: unknown } | null;
  if (asked?.helper !== VERSION)
    throw new HelperRefusal('outdated', `this is version ${VERSION} of hatchery-node`);
  const { node, requests } = asked;
  if (!Array.isArray(requests) || requests.length === 0 || requests.length > MOST)
    throw new HelperRefusal('malformed', `requests is no list of 1 to ${MOST}`);
  return requests.map((request: unknown) => {
    const parsed = helperRequest.safeParse({ ...(request as object), node });
    return parsed.success ? parsed.data : new HelperRefusal('malformed', z.prettifyError(parsed.error));
  });
}

/** As it prints them. */
export const answerLine = (told: object): string => `${JSON.stringify({ helper: VERSION, ...told })}\n`;

export const refusalOf = ({ reason, message, more }: HelperRefusal): object => ({
  ok: false,
  reason,
  message,
  ...more,
});
