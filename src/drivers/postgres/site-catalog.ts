import { createHash } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import { blueprintSchema, type Blueprint, type ClusterDefinition } from '../../core/definitions.js';
import { HatcheryError } from '../../core/errors.js';
import { needsNode } from '../../core/lxc/container-definition.js';
import { FIRST_BOOT, type RegisteredHook } from '../../core/lxc/on-node.js';
import type { Catalog } from '../../ports/catalog.js';
import type { CompiledPlan } from '../../plan/compiled-plan.js';
import type { Database } from './database.js';

interface Version {
  readonly versionId: string;
  readonly definition: Blueprint;
}

/**
 * Stores what the site's files offer, so that batches keep the version they were made with.
 * Errors: `settings-invalid` for a blueprint that changed without a new version, or that names a workflow that is not there.
 */
export async function storeCatalog(
  database: Database,
  site: {
    blueprints: readonly Blueprint[];
    workflows: readonly CompiledPlan[];
    clusters: readonly ClusterDefinition[];
    hooks: ReadonlyMap<string, RegisteredHook>;
  },
): Promise<Catalog> {
  const blueprints = new Map<string, Version>();
  for (const definition of site.blueprints) {
    const plan = site.workflows.find(({ workflow }) => workflow === definition.workflow);
    if (plan === undefined)
      throw new HatcheryError(
        'settings-invalid',
        `Unable to offer blueprint ${definition.name}: there is no workflow ${definition.workflow}`,
        {
          hint: `Write one of: ${site.workflows.map((plan) => plan.workflow).join(', ')}`,
        },
      );
    for (const step of neededSteps(definition, site.hooks))
      if (!plan.steps.some(({ uses }) => uses === step))
        throw new HatcheryError(
          'settings-invalid',
          `Unable to offer blueprint ${definition.name}: what it asks for needs a step that uses ${step}, and workflow ${plan.workflow} has none`,
          {
            hint: `Write a workflow that has it, for example ${definition.kind === 'qemu' ? 'student-vm' : 'student-lxc-debian'}.`,
          },
        );
    blueprints.set(definition.name, { versionId: await storeBlueprint(database, definition), definition });
  }
  for (const plan of site.workflows)
    await database.query(
      'insert into workflow_versions (id, workflow, plan) values ($1, $2, $3) on conflict (id) do nothing',
      [plan.version, plan.workflow, JSON.stringify(plan)],
    );
  const clusters = new Map(site.clusters.map((cluster) => [cluster.name, cluster]));
  const workflows = new Map(site.workflows.map((plan) => [plan.workflow, plan]));
  return {
    blueprint: (name) => find(blueprints, name, 'blueprint'),
    blueprintVersion: (name, version) => readVersion(database, name, version),
    workflow: (id) => find(workflows, id, 'workflow'),
    cluster: (name) => find(clusters, name, 'cluster'),
    hooks: site.hooks,
  };
}

/** Without them a machine would come up without what was asked for, and nobody would be told. */
function neededSteps(
  { container, cloudInit }: Blueprint,
  hooks: ReadonlyMap<string, RegisteredHook>,
): readonly string[] {
  if (cloudInit?.snippets) return ['put-snippets', 'use-snippets'];
  if (container === undefined || !needsNode(container)) return [];
  const used = [...container.hooks.map(({ hook }) => hook), ...(container.firstBoot ? [FIRST_BOOT] : [])];
  const reports = used.some((name) => hooks.get(name)?.reports === true);
  return [
    'write-container-config',
    ...(used.length > 0 ? ['end-first-boot'] : []),
    ...(reports ? ['wait-first-boot'] : []),
  ];
}

async function storeBlueprint(database: Database, definition: Blueprint): Promise<string> {
  const canonical = JSON.stringify(definition);
  const digest = createHash('sha256').update(canonical).digest('hex');
  const [row] = await database.query<{ id: string; digest: string }>(
    `insert into blueprint_versions (id, name, version, digest, definition) values ($1, $2, $3, $4, $5)
     on conflict (name, version) do update set name = excluded.name returning id, digest`,
    [uuidv7(), definition.name, definition.version, digest, canonical],
  );
  if (row!.digest === digest) return row!.id;
  throw new HatcheryError(
    'settings-invalid',
    `Unable to offer blueprint ${definition.name}: its file changed, but its version is still ${definition.version}`,
    {
      hint: `Write version: ${definition.version + 1} in it; machines that exist keep the version they were made with.`,
    },
  );
}

async function readVersion(database: Database, name: string, version: number): Promise<Version> {
  const [row] = await database.query<{ id: string; definition: unknown }>(
    'select id, definition from blueprint_versions where name = $1 and version = $2',
    [name, version],
  );
  if (!row) throw new HatcheryError('not-found', `Unable to find version ${version} of blueprint ${name}`);
  return { versionId: row.id, definition: blueprintSchema.parse(row.definition) };
}

function find<T>(map: ReadonlyMap<string, T>, name: string, what: string): T {
  const found = map.get(name);
  if (found !== undefined) return found;
  const names = [...map.keys()].sort().join(', ');
  throw new HatcheryError('not-found', `Unable to find ${what} ${name}`, {
    hint: names === '' ? `No ${what} is configured.` : `Write one of: ${names}`,
  });
}
