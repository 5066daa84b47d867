import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { z } from 'zod';
import {
  blueprintSchema,
  clusterSchema,
  serviceFileSchema,
  type Blueprint,
  type ClusterDefinition,
  type DomainDefinition,
  type SecretSource,
  type ServiceDefinition,
  type Trust,
} from '../../core/definitions.js';
import { HatcheryError, type Problem } from '../../core/errors.js';
import { snippetSiteProblem } from '../../core/cloud-init/snippets.js';
import { clusterProblems } from '../../core/lxc/container-definition.js';
import { argumentsProblem, hookSchema, type HookDefinition } from '../../core/lxc/hook-definition.js';
import { FIRST_BOOT } from '../../core/lxc/on-node.js';
import { Secret } from '../../ports/secrets.js';
import { PACKAGE_ROOT } from './package-root.js';
import { YamlFile } from './yaml-file.js';

/** `caFile` of a definition is an absolute path of a readable file. */
export interface SiteCluster {
  readonly definition: ClusterDefinition;
  /** Secret of the token, or password of the account. */
  readonly secret: Secret;
  /** Of `ssh` in the definition. */
  readonly sshKey?: Secret;
}

export interface SiteService {
  readonly definition: ServiceDefinition;
  readonly password: Secret;
}

export interface SiteDomain {
  readonly definition: DomainDefinition;
  readonly password: Secret;
}

export interface SiteHook {
  readonly definition: HookDefinition;
  readonly script: Buffer;
}

export interface WorkflowFile {
  readonly path: string;
  readonly text: string;
}

/** What the YAML files of a site say, checked and with its secrets read. */
export interface SiteConfig {
  readonly clusters: readonly SiteCluster[];
  readonly services: readonly SiteService[];
  readonly domains: readonly SiteDomain[];
  readonly blueprints: readonly Blueprint[];
  readonly hooks: readonly SiteHook[];
  readonly workflowFiles: readonly WorkflowFile[];
}

export interface SiteSource {
  /** Holds clusters/ services/ blueprints/ workflows/ hooks/; `undefined` = the package's own only. */
  readonly configDir: string | undefined;
  /** For secrets written as `{ env: NAME }`. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly packageRoot?: string;
}

/**
 * Reads a site's folder over the package's own: a blueprint or hook of the same name and a workflow file of the same file name take the place of ours.
 * Errors: one `settings-invalid` that lists `file:line:column: what to write` for everything that is wrong.
 */
export function loadSite({ configDir, env, packageRoot = PACKAGE_ROOT }: SiteSource): SiteConfig {
  if (configDir !== undefined && !existsSync(configDir))
    throw new HatcheryError(
      'settings-invalid',
      `Unable to read the site: HATCHERY_CONFIG_DIR ${configDir} does not exist`,
      {
        retry: 'after-fix',
        hint: 'Write the folder that holds clusters/, services/, blueprints/, workflows/ and hooks/.',
      },
    );
  const reader = new SiteReader(env);
  const clusters = reader.named(siteFiles(configDir, 'clusters'), clusterSchema, (definition, file) => ({
    definition: { ...definition, trust: reader.trust(definition.trust, file) },
    secret: reader.clusterSecret(definition, file),
    ...(definition.ssh && {
      sshKey: reader.secret(definition.ssh.privateKey, ['ssh', 'privateKey'], file),
    }),
  }));
  const serviceFiles = reader.named(
    siteFiles(configDir, 'services'),
    serviceFileSchema,
    (definition, file) => ({
      definition:
        definition.kind !== 'active-directory' && definition.trust
          ? { ...definition, trust: reader.trust(definition.trust, file) }
          : definition,
      password: reader.secret(definition.password, ['password'], file),
    }),
  );
  const services = serviceFiles.filter(
    (one): one is SiteService => one.definition.kind !== 'active-directory',
  );
  const domains = serviceFiles.filter((one): one is SiteDomain => one.definition.kind === 'active-directory');
  const hook = (definition: HookDefinition, file: YamlFile): SiteHook => ({
    definition,
    script: reader.script(definition, file),
  });
  const ownHooks = reader.named(siteFiles(configDir, 'hooks'), hookSchema, hook);
  const shippedHooks = reader.named(siteFiles(packageRoot, 'hooks'), hookSchema, hook);
  const hooks = [
    ...ownHooks,
    ...shippedHooks.filter(({ definition: { name } }) => !names(ownHooks).has(name)),
  ];
  const known = {
    clusters: names(clusters),
    services: names(services),
    containers: { clusters, hooks, domains: names(domains) },
  };
  const own = reader.named(siteFiles(configDir, 'blueprints'), blueprintSchema, (definition, file) => {
    for (const { path, sentence } of unknownReferences(definition, known)) file.refuse(path, sentence);
    return { definition };
  });
  const shipped = reader.named(siteFiles(packageRoot, 'blueprints'), blueprintSchema, (definition) => ({
    definition,
  }));
  const workflowFiles = [
    ...overlay(siteFiles(packageRoot, 'workflows'), siteFiles(configDir, 'workflows')),
  ].map((path) => ({
    path,
    text: readFileSync(path, 'utf8'),
  }));
  if (reader.problems.length > 0) throw refusal(reader.problems);
  const replaced = names(own);
  return {
    clusters,
    services,
    domains,
    // A shipped blueprint for systems that this site does not have is no mistake of the site: it is just not offered.
    blueprints: [
      ...own,
      ...shipped.filter(
        ({ definition }) =>
          !replaced.has(definition.name) && unknownReferences(definition, known).length === 0,
      ),
    ].map(({ definition }) => definition),
    hooks,
    workflowFiles,
  };
}

type Named = { readonly definition: { readonly name: string } };

/** What a node takes as one file. */
const SCRIPT_BYTES = 1_048_576;

class SiteReader {
  readonly problems: Problem[] = [];

  constructor(private readonly env: SiteSource['env']) {}

  /** Reads files of one kind; two files with one `name` are refused. */
  named<S extends z.ZodType<{ name: string }>, T extends Named>(
    paths: readonly string[],
    schema: S,
    complete: (definition: z.output<S>, file: YamlFile) => T,
  ): T[] {
    const found = new Map<string, string>();
    const items: T[] = [];
    for (const path of paths) {
      const file = new YamlFile(path);
      const definition = file.read(schema);
      if (definition !== undefined) {
        const first = found.get(definition.name);
        if (first !== undefined)
          file.refuse(['name'], `${definition.name} is also the name in ${first}: write another one`);
        found.set(definition.name, path);
        items.push(complete(definition, file));
      }
      this.problems.push(...file.problems);
    }
    return items;
  }

  clusterSecret({ token, account }: ClusterDefinition, file: YamlFile): Secret {
    if (token) return this.secret(token.secret, ['token', 'secret'], file);
    // The schema lets nothing through that has neither.
    return this.secret(account!.password, ['account', 'password'], file);
  }

  secret(source: SecretSource, path: readonly string[], file: YamlFile): Secret {
    if ('env' in source) {
      const value = this.env[source.env];
      if (source.env.startsWith('HATCHERY_'))
        file.refuse(
          [...path, 'env'],
          'write a name that does not begin with HATCHERY_: those are settings of the service',
        );
      else if (!value)
        file.refuse([...path, 'env'], `the variable ${source.env} is not set: set it or name another one`);
      return new Secret(value ?? '');
    }
    return new Secret(this.text(source.file, [...path, 'file'], file).trimEnd());
  }

  trust(trust: Trust, file: YamlFile): Trust {
    if (!('caFile' in trust)) return trust;
    this.text(trust.caFile, ['trust', 'caFile'], file);
    return { caFile: resolve(dirname(file.path), trust.caFile) };
  }

  /** Of a hook; one that is not what its hash says is not run. */
  script({ script: { file: name }, sha256 }: HookDefinition, file: YamlFile): Buffer {
    const bytes = Buffer.from(this.text(name, ['script', 'file'], file));
    const found = createHash('sha256').update(bytes).digest('hex');
    if (bytes.length > SCRIPT_BYTES)
      file.refuse(['script', 'file'], `write a script of at most ${SCRIPT_BYTES} bytes`);
    else if (bytes.length > 0 && found !== sha256)
      file.refuse(['sha256'], `the script is another one: look at it, then write ${found}`);
    return bytes;
  }

  /** A file named in a YAML file, relative to it. */
  private text(name: string, path: readonly string[], file: YamlFile): string {
    const target = resolve(dirname(file.path), name);
    try {
      const content = readFileSync(target, 'utf8');
      if (content.trim() === '')
        file.refuse(path, `the file ${target} is empty: write its content or name another one`);
      return content;
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? 'unreadable';
      file.refuse(path, `write the path of a readable file (${target}: ${code})`);
      return '';
    }
  }
}

function siteFiles(root: string | undefined, folder: string): string[] {
  const directory = root === undefined ? undefined : join(root, folder);
  if (directory === undefined || !existsSync(directory)) return [];
  return readdirSync(directory)
    .filter((name) => /\.ya?ml$/.test(name))
    .sort()
    .map((name) => join(directory, name));
}

function overlay(base: readonly string[], over: readonly string[]): Iterable<string> {
  const byName = new Map([...base, ...over].map((path) => [path.slice(dirname(path).length), path]));
  return byName.values();
}

const names = (items: readonly Named[]): ReadonlySet<string> =>
  new Set(items.map(({ definition }) => definition.name));

function unknownReferences(
  blueprint: Blueprint,
  known: {
    clusters: ReadonlySet<string>;
    services: ReadonlySet<string>;
    containers: Parameters<typeof containerProblems>[1];
  },
): { path: (string | number)[]; sentence: string }[] {
  const { network, access } = blueprint;
  return [
    ...containerProblems(blueprint, known.containers),
    ...snippetProblems(blueprint, known.containers.clusters),
    ...blueprint.clusters.flatMap((name, index) =>
      known.clusters.has(name)
        ? []
        : [
            {
              path: ['clusters', index],
              sentence: `write the name of a file in clusters/ (${name} is none)`,
            },
          ],
    ),
    ...(network.dhcp === undefined || known.services.has(network.dhcp)
      ? []
      : [
          {
            path: ['network', 'dhcp'],
            sentence: `write the name of a file in services/ (${network.dhcp} is none)`,
          },
        ]),
    ...(access === undefined || known.services.has(access.service)
      ? []
      : [
          {
            path: ['access', 'service'],
            sentence: `write the name of a file in services/ (${access.service} is none)`,
          },
        ]),
  ];
}

function snippetProblems(
  { cloudInit, clusters }: Blueprint,
  known: readonly SiteCluster[],
): { path: string[]; sentence: string }[] {
  if (cloudInit?.snippets === undefined) return [];
  return known
    .filter(({ definition }) => clusters.includes(definition.name))
    .flatMap(({ definition }) => snippetSiteProblem(definition) ?? [])
    .map((sentence) => ({ path: ['cloudInit', 'snippets'], sentence }));
}

/** What a blueprint of containers asks for and its clusters, hooks and domains do not give. */
function containerProblems(
  { container, clusters }: Blueprint,
  known: {
    readonly clusters: readonly SiteCluster[];
    readonly hooks: readonly SiteHook[];
    readonly domains: ReadonlySet<string>;
  },
): { path: (string | number)[]; sentence: string }[] {
  if (container === undefined) return [];
  const ofClusters = known.clusters
    .filter(({ definition }) => clusters.includes(definition.name))
    .flatMap(({ definition: { name, containers, ssh } }) =>
      clusterProblems(container, { name, containers, hasSsh: ssh !== undefined }),
    );
  const ofHooks = container.hooks.map(({ hook: name, arguments: given }, index) => {
    const hook = known.hooks.find(({ definition }) => definition.name === name);
    const isFree = hook !== undefined && name !== FIRST_BOOT;
    const sentence = isFree
      ? argumentsProblem(hook.definition, given)
      : `write the name of a file in hooks/ (${name} is ${hook ? 'our own: write firstBoot' : 'none'})`;
    const isTwice = container.hooks.findIndex((other) => other.hook === name) < index;
    return {
      path: ['hooks', index],
      sentence: isTwice ? `${name} stands here twice: write it once` : sentence,
    };
  });
  const domain = container.firstBoot?.domain;
  const ofDomain =
    domain === undefined || known.domains.has(domain)
      ? []
      : [
          {
            path: ['firstBoot', 'domain'],
            sentence: `write the name of an active-directory in services/ (${domain} is none)`,
          },
        ];
  return [...ofClusters, ...ofHooks, ...ofDomain].flatMap(({ path, sentence }) =>
    sentence === undefined ? [] : [{ path: ['container', ...path], sentence }],
  );
}

function refusal(problems: readonly Problem[]): HatcheryError {
  const list = problems.map((problem) => `  ${problem.detail}`).join('\n');
  return new HatcheryError('settings-invalid', `Unable to read the site's files:\n${list}`, {
    retry: 'after-fix',
    problems,
  });
}
