import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { HatcheryError, type Problem } from '../../core/errors.js';
import { slug } from '../../core/slug.js';
import { redisUrlProblem } from '../../drivers/redis/redis-url.js';
import { Secret } from '../../ports/secrets.js';

type Env = Readonly<Record<string, string | undefined>>;

const text = z.string().trim().min(1);
const secret = text.transform((value) => new Secret(value));

const number = (options: { from: number; to: number; whole: boolean; write: string }) =>
  z
    .string()
    .refine((value) => {
      const parsed = Number(value);
      const fits = Number.isFinite(parsed) && parsed >= options.from && parsed <= options.to;
      return /^[0-9.]+$/.test(value) && fits && (!options.whole || Number.isInteger(parsed));
    }, options.write)
    .transform(Number);

const storeSettings = z.object({
  DATABASE_URL: text
    .regex(
      /^postgres(ql)?:\/\//,
      'write postgres://user:password@host:5432/database, or leave it out for the embedded Postgres',
    )
    .transform((value) => new Secret(value))
    .optional(),
});

const redisSettings = z.object({
  REDIS_URL: text
    .superRefine((value, context) => {
      const problem = redisUrlProblem(value);
      if (problem !== undefined) context.addIssue({ code: 'custom', message: problem });
    })
    .transform((value) => new Secret(value))
    .optional(),
  REDIS_PREFIX: text
    .regex(
      /^\{[A-Za-z0-9:_-]+\}$/,
      'write a name in braces, e.g. {hatchery}: Redis Cluster keeps what is in braces together',
    )
    .default('{hatchery}'),
});

const httpSettings = z.object({
  HATCHERY_HOST: text.default('127.0.0.1'),
  HATCHERY_PORT: number({
    from: 0,
    to: 65_535,
    whole: true,
    write: 'write a port from 1 to 65535, or 0 for a free one',
  }).optional(),
  HATCHERY_PUBLIC_URL: z
    .url({
      protocol: /^https?$/,
      error: 'write the address that people use, e.g. https://hatchery.example.org',
    })
    .optional(),
});

const identitySettings = z.object({
  HATCHERY_ADMIN_LOGIN: text
    .regex(
      /^[a-z0-9][a-z0-9._-]{0,63}$/,
      'write lower-case letters, digits, dots, hyphens and underscores, at most 64 characters',
    )
    .default('admin'),
  HATCHERY_ADMIN_PASSWORD: text
    .min(8, 'write at least 8 characters, or leave it out: one is made and kept in the state folder')
    .transform((value) => new Secret(value))
    .optional(),
});

const loggingSettings = z.object({
  HATCHERY_LOG_LEVEL: z
    .enum(
      ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
      'write trace, debug, info, warn, error, fatal or silent',
    )
    .default('info'),
});

const engineSettings = z.object({
  HATCHERY_ROLE: z.enum(['api', 'worker', 'all'], 'write api, worker or all').default('all'),
  HATCHERY_DEPLOYMENT: slug.optional(),
  HATCHERY_STATE_DIR: text.optional(),
  HATCHERY_CONFIG_DIR: text.optional(),
  HATCHERY_SECRET_KEY: secret
    .refine(
      (key) => Buffer.from(key.reveal(), 'base64').length === 32 && /^[A-Za-z0-9+/]{43}=$/.test(key.reveal()),
      'write 32 random bytes in base64, e.g. the output of: openssl rand -base64 32',
    )
    .optional(),
  HATCHERY_REMOTE_TIME_SCALE: number({
    from: 0.001,
    to: 100,
    whole: false,
    write: 'write a number from 0.001 to 100, e.g. 0.05',
  }).default(1),
  HATCHERY_WORKER_CONCURRENCY: number({
    from: 1,
    to: 1000,
    whole: true,
    write: 'write a whole number from 1 to 1000',
  }).default(32),
  HATCHERY_NOTIFY_HOSTS: text
    .regex(
      /^[A-Za-z0-9.:-]+(,[A-Za-z0-9.:-]+)*$/,
      'write host names with commas between, e.g. chat.example.org,10.0.0.5',
    )
    .transform((value) => value.split(','))
    .optional(),
});

const SUBSYSTEMS = {
  store: storeSettings,
  redis: redisSettings,
  http: httpSettings,
  identity: identitySettings,
  logging: loggingSettings,
  engine: engineSettings,
} as const;

/** Settings whose value may also stand in the file that `<name>_FILE` names. */
export const SECRET_SETTINGS = [
  'DATABASE_URL',
  'REDIS_URL',
  'HATCHERY_SECRET_KEY',
  'HATCHERY_ADMIN_PASSWORD',
  'HATCHERY_TOKEN',
] as const;

/** Read by the command line only; the service lets them stand in its environment. */
const CLI_SETTINGS = ['HATCHERY_URL', 'HATCHERY_TOKEN'] as const;

/** Every variable that the product reads, `_FILE` forms included. */
export const KNOWN_SETTINGS: readonly string[] = [
  ...Object.values(SUBSYSTEMS).flatMap((schema) => Object.keys(schema.shape)),
  ...CLI_SETTINGS,
  ...SECRET_SETTINGS.map((name) => `${name}_FILE`),
];

/** The settings of one process: read once, handed down, never read again. */
export interface Settings {
  /** `undefined` = the embedded Postgres. */
  readonly store: { readonly databaseUrl: Secret | undefined };
  /** `url` undefined = the embedded Redis. */
  readonly redis: { readonly url: Secret | undefined; readonly prefix: string };
  readonly http: {
    readonly host: string;
    /** `undefined` = not set: 3000 for an API, no port at all for a worker. */
    readonly port: number | undefined;
    readonly publicUrl: string | undefined;
  };
  readonly identity: { readonly adminLogin: string; readonly adminPassword: Secret | undefined };
  readonly logging: { readonly level: z.infer<typeof loggingSettings>['HATCHERY_LOG_LEVEL'] };
  readonly engine: {
    readonly role: 'api' | 'worker' | 'all';
    readonly deployment: string | undefined;
    readonly stateDir: string | undefined;
    readonly configDir: string | undefined;
    readonly secretKey: Secret | undefined;
    /** Multiplies waits that face a remote side; 1 outside the demo and the tests. */
    readonly remoteTimeScale: number;
    readonly workerConcurrency: number;
    /** Hosts inside our networks that a batch's notify URL may name. */
    readonly notifyHosts: readonly string[];
  };
}

/**
 * Reads the settings of `env`, files of `X_FILE` included. An empty value counts as not set.
 * Errors: one `settings-invalid` that names each variable and what to write instead.
 */
export function readSettings(env: Env): Settings {
  const problems: Problem[] = [];
  const values = readValues(env, problems);
  const parse = <S extends z.ZodObject>(schema: S): z.infer<S> | undefined => {
    const result = schema.safeParse(pick(values, Object.keys(schema.shape)));
    for (const issue of result.error?.issues ?? [])
      problems.push(invalid(String(issue.path[0]), `${String(issue.path[0])}: ${issue.message}`));
    return result.data;
  };
  const store = parse(SUBSYSTEMS.store);
  const redis = parse(SUBSYSTEMS.redis);
  const http = parse(SUBSYSTEMS.http);
  const identity = parse(SUBSYSTEMS.identity);
  const logging = parse(SUBSYSTEMS.logging);
  const engine = parse(SUBSYSTEMS.engine);
  problems.push(...unknownNames(env));
  if (!store || !redis || !http || !identity || !logging || !engine || problems.length > 0)
    throw refusal(problems);
  const settings: Settings = {
    store: { databaseUrl: store.DATABASE_URL },
    redis: { url: redis.REDIS_URL, prefix: redis.REDIS_PREFIX },
    http: { host: http.HATCHERY_HOST, port: http.HATCHERY_PORT, publicUrl: http.HATCHERY_PUBLIC_URL },
    identity: { adminLogin: identity.HATCHERY_ADMIN_LOGIN, adminPassword: identity.HATCHERY_ADMIN_PASSWORD },
    logging: { level: logging.HATCHERY_LOG_LEVEL },
    engine: {
      role: engine.HATCHERY_ROLE,
      deployment: engine.HATCHERY_DEPLOYMENT,
      stateDir: engine.HATCHERY_STATE_DIR,
      configDir: engine.HATCHERY_CONFIG_DIR,
      secretKey: engine.HATCHERY_SECRET_KEY,
      remoteTimeScale: engine.HATCHERY_REMOTE_TIME_SCALE,
      workerConcurrency: engine.HATCHERY_WORKER_CONCURRENCY,
      notifyHosts: engine.HATCHERY_NOTIFY_HOSTS ?? [],
    },
  };
  const conflicts = contradictions(settings);
  if (conflicts.length > 0) throw refusal(conflicts);
  return settings;
}

/** What is printed at start: the tree with every secret as `***`. */
export function maskedSettings(settings: Settings): Record<string, unknown> {
  return JSON.parse(JSON.stringify(settings)) as Record<string, unknown>;
}

function readValues(env: Env, problems: Problem[]): Map<string, string> {
  const values = new Map<string, string>();
  for (const [name, value] of Object.entries(env))
    if (value !== undefined && value !== '') values.set(name, value);
  for (const name of SECRET_SETTINGS) {
    const path = values.get(`${name}_FILE`);
    if (path === undefined) continue;
    if (values.has(name)) {
      problems.push(invalid(name, `${name} and ${name}_FILE are both set: write one of them`));
      continue;
    }
    try {
      values.set(name, readFileSync(path, 'utf8').trimEnd());
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? 'unreadable';
      problems.push(invalid(name, `${name}_FILE: write the path of a readable file (${path}: ${code})`));
    }
  }
  return values;
}

function unknownNames(env: Env): Problem[] {
  return Object.keys(env)
    .filter((name) => name.startsWith('HATCHERY_') && !KNOWN_SETTINGS.includes(name))
    .map((name) => {
      const near = nearest(name);
      return invalid(name, `${name} is not a setting: ${near ? `write ${near}` : 'remove it'}`);
    });
}

/** Settings that are right one by one and wrong together. */
function contradictions({ store, redis, engine }: Settings): Problem[] {
  const found: Problem[] = [];
  if (engine.role === 'worker' && (!store.databaseUrl || !redis.url))
    found.push(
      invalid(
        'HATCHERY_ROLE',
        'HATCHERY_ROLE=worker: write DATABASE_URL and REDIS_URL too, a worker has no stores of its own',
      ),
    );
  if (store.databaseUrl && !engine.secretKey)
    found.push(
      invalid(
        'HATCHERY_SECRET_KEY',
        'HATCHERY_SECRET_KEY: write it too when DATABASE_URL is set (openssl rand -base64 32), and keep a copy beside the backups of the database',
      ),
    );
  return found;
}

function refusal(problems: readonly Problem[]): HatcheryError {
  const list = problems.map((problem) => `  ${problem.detail}`).join('\n');
  return new HatcheryError('settings-invalid', `Unable to read the settings:\n${list}`, {
    retry: 'after-fix',
    hint: 'Settings are listed in docs/operations.md.',
    problems,
  });
}

const invalid = (column: string, detail: string): Problem => ({ column, code: 'settings-invalid', detail });

function pick(
  values: ReadonlyMap<string, string>,
  names: readonly string[],
): Record<string, string | undefined> {
  return Object.fromEntries(names.map((name) => [name, values.get(name)]));
}

function nearest(name: string): string | undefined {
  const ranked = KNOWN_SETTINGS.map((known) => ({ known, distance: editDistance(name, known) }));
  const best = ranked.sort((a, b) => a.distance - b.distance)[0];
  return best !== undefined && best.distance <= 5 ? best.known : undefined;
}

/** Levenshtein, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const swap = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
