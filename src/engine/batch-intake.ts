import { createHash } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import { planBatch, requireAccepted, type BatchPlan } from '../core/batch-plan.js';
import { defaultSize, type Blueprint, type ClusterDefinition } from '../core/definitions.js';
import {
  snippetLoginProblem,
  snippetNotes,
  snippetPlace,
  type SnippetPlace,
} from '../core/cloud-init/snippets.js';
import { HatcheryError } from '../core/errors.js';
import { loginProblem } from '../core/lxc/on-node.js';
import { batchNameProblem } from '../core/names.js';
import type { PlacementSource, Promised } from '../core/placement.js';
import type { RosterRow } from '../core/roster/roster.js';
import type {
  BatchHead,
  BatchStore,
  FailedMachine,
  IdempotentRequest,
  Promises,
} from '../ports/batch-store.js';
import { plainCall } from '../ports/call.js';
import type { Hypervisors, Inventory, TemplateInfo } from '../ports/hypervisor.js';
import type { Secrets } from '../ports/secrets.js';
import type { Catalog } from '../ports/catalog.js';
import { composeMachines } from './compose-machines.js';
import { changeRun, type EngineParts } from './engine.js';
import {
  ownerOf,
  type Actor,
  type BatchRequest,
  type Credential,
  type EstimatedPlan,
  type Intake,
  type Retried,
  type RetryWhat,
} from './intake.js';
import { passesByItself } from './pace.js';
import type { RemainingTimes } from './remaining-times.js';

/** Runs of one request that are changed at the same time, each in its own transaction. */
const RETRIED_AT_ONCE = 8;

/** Everything that a plan is computed from; read once, whatever the number of machines. */
interface Ground {
  readonly blueprint: Blueprint;
  readonly cluster: ClusterDefinition;
  readonly inventory: Inventory;
  /** What its machines are made from. */
  readonly source: PlacementSource;
  /** Copies that can be used, at least one unless they are made from an archive. */
  readonly templates: readonly TemplateInfo[];
  readonly notes: readonly string[];
  /** Where its machines get cloud-init files, if they get any. */
  readonly snippetPlace: SnippetPlace | undefined;
}

export class BatchIntake implements Intake {
  constructor(
    private readonly parts: {
      readonly batches: BatchStore;
      readonly catalog: Catalog;
      readonly hypervisors: Hypervisors;
      readonly secrets: Secrets;
      readonly engine: Pick<
        EngineParts,
        | 'store'
        | 'stops'
        | 'steps'
        | 'effects'
        | 'times'
        | 'wakeUps'
        | 'random'
        | 'checkpoints'
        | 'retryBudget'
        | 'clock'
      >;
      /** Looks for guests of other deployments in our range of this cluster. */
      readonly watchCluster: (cluster: string, inventory: Inventory, signal: AbortSignal) => Promise<void>;
      readonly remaining: Pick<RemainingTimes, 'ofNew'>;
      /** The command of `bootcmd` with which machines of a cluster tell their address; `undefined` = they do not. */
      readonly phoneHomeCommand: (cluster: string) => readonly string[] | undefined;
    },
  ) {}

  async plan(request: BatchRequest, actor: Actor): Promise<EstimatedPlan> {
    checkName(request.name);
    const { definition } = this.parts.catalog.blueprint(request.blueprint);
    const ground = await this.survey(definition);
    const promises = await this.parts.batches.promises(ground.cluster.name, definition.name);
    const plan = this.compute(request, ground, promises, actor);
    return { ...plan, readyInMs: await this.estimate(request, ground, plan, actor) };
  }

  /** The machines of the plan behind and beside the work that is there already. */
  private estimate(
    { rows, name }: BatchRequest,
    { blueprint, cluster, templates, snippetPlace: place }: Ground,
    plan: BatchPlan,
    actor: Actor,
  ): Promise<number | undefined> {
    const workflow = this.parts.catalog.workflow(blueprint.workflow);
    const machines = composeMachines({
      plan,
      rows,
      blueprint,
      cluster,
      templates,
      batch: { id: uuidv7(), name },
      workflow,
      registry: this.parts.engine,
      hooks: this.parts.catalog.hooks,
      snippetPlace: place,
      phoneHomeCommand: this.parts.phoneHomeCommand(cluster.name),
    });
    return this.parts.remaining.ofNew({
      cluster: cluster.name,
      owner: actor.userId,
      blueprint: blueprint.name,
      workflow,
      machines: machines.map(({ input }) => input),
    });
  }

  async create(
    request: BatchRequest,
    actor: Actor,
    idempotencyKey: string | undefined,
  ): Promise<{ batchId: string; replayed: boolean }> {
    checkName(request.name);
    const idempotency = idempotent(actor, 'POST batches', idempotencyKey, request);
    const known = idempotency && (await this.parts.batches.replay(idempotency));
    if (known !== undefined) return { batchId: known, replayed: true };
    const { versionId, definition } = this.parts.catalog.blueprint(request.blueprint);
    return this.accept({
      request,
      actor,
      ownerId: actor.userId,
      batch: { id: uuidv7(), name: request.name, notifyUrl: request.notifyUrl },
      blueprint: { versionId, definition },
      idempotency,
    });
  }

  async addMachines(
    batch: string,
    request: Pick<BatchRequest, 'rows' | 'skipExisting'>,
    actor: Actor,
    idempotencyKey: string | undefined,
  ): Promise<{ batchId: string; replayed: boolean }> {
    const head = await this.find(batch, actor);
    const idempotency = idempotent(actor, `POST batches/${head.id}/machines`, idempotencyKey, request);
    const known = idempotency && (await this.parts.batches.replay(idempotency));
    if (known !== undefined) return { batchId: known, replayed: true };
    return this.accept({
      request: { ...request, name: head.name },
      actor,
      ownerId: head.ownerId,
      batch: { existing: head },
      blueprint: await this.parts.catalog.blueprintVersion(head.blueprint, head.blueprintVersion),
      idempotency,
    });
  }

  async cancelBatch(batch: string, actor: Actor): Promise<void> {
    await this.gone(await this.find(batch, actor), actor, false);
  }

  async deleteBatch(batch: string, actor: Actor): Promise<void> {
    await this.gone(await this.find(batch, actor), actor, true);
  }

  async deleteMachine(machineId: string, actor: Actor): Promise<void> {
    const machine = await this.parts.batches.findMachine(machineId, ownerOf(actor));
    if (!machine) throw notFound('machine', machineId);
    if (machine.state === 'reserved' || machine.state === 'creating')
      throw new HatcheryError(
        'batch-busy',
        `Unable to delete machine ${machine.name}: it is still being created`,
        {
          hint: 'Wait for its end, or cancel its batch.',
        },
      );
    if (machine.state === 'deleted') return;
    await this.parts.batches.wantMachineGone(machine, actor.login);
    this.parts.engine.wakeUps.notify('gone');
  }

  async retryRun(runId: string, actor: Actor): Promise<string> {
    const { batches } = this.parts;
    const run = await batches.findRun(runId, ownerOf(actor));
    if (!run) throw notFound('run', runId);
    if (await this.resume(runId, actor)) return runId;
    const failed = await batches.failedOf(run.batchId, { runId });
    if (failed.length === 0)
      throw new HatcheryError(
        'not-applicable',
        `Unable to retry run ${runId}: none of its steps is parked, and it has not failed`,
        { hint: `Look at it: hatchery run show ${runId}` },
      );
    await this.replace(await this.find(run.batchId, actor), failed, actor);
    return (await batches.lastRunOf(run.batchId, failed[0]!.row.login)) ?? runId;
  }

  async retryBatch(batch: string, { which, code }: RetryWhat, actor: Actor): Promise<Retried> {
    const { batches } = this.parts;
    const head = await this.find(batch, actor);
    const parked = which === 'failed' ? [] : await batches.parkedRuns(head.id, code);
    const failed = which === 'parked' ? [] : await batches.failedOf(head.id, { code });
    if (parked.length + failed.length === 0)
      throw new HatcheryError(
        'not-applicable',
        `Unable to retry batch ${head.name}: no machine of it is ${which === 'all' ? 'parked or failed' : which}${code === undefined ? '' : ` for ${code}`}`,
        { hint: `What its machines are: hatchery batch results ${head.name}` },
      );
    // First what may be refused as a whole: then nothing has begun.
    if (failed.length > 0) await this.replace(head, failed, actor);
    let resumed = 0;
    for (let at = 0; at < parked.length; at += RETRIED_AT_ONCE) {
      const chunk = parked.slice(at, at + RETRIED_AT_ONCE);
      const went = await Promise.all(chunk.map((runId) => this.resume(runId, actor)));
      resumed += went.filter(Boolean).length;
    }
    return { resumed, replaced: failed.length };
  }

  /** False: no step of the run is parked any more. */
  private async resume(runId: string, actor: Actor): Promise<boolean> {
    const count = await changeRun(this.parts.engine, { runId }, (model) => {
      const steps = model.retry();
      if (steps > 0) model.audit({ actor: actor.login, action: 'run.retry', detail: { steps } });
      return steps;
    });
    return count !== undefined && count > 0;
  }

  /** New machines for the people of these, which have failed and hold nothing any more. */
  private async replace(head: BatchHead, failed: readonly FailedMachine[], actor: Actor): Promise<void> {
    const blueprint = await this.parts.catalog.blueprintVersion(head.blueprint, head.blueprintVersion);
    const ofSite = new Set(blueprint.definition.siteSshKeys);
    const rows = failed.map(({ row }) => ({
      ...row,
      sshKeys: row.sshKeys.filter((key) => !ofSite.has(key)),
    }));
    await this.accept({
      request: { name: head.name, rows, skipExisting: false },
      actor,
      ownerId: head.ownerId,
      batch: { existing: head },
      blueprint,
      idempotency: undefined,
      replaces: failed.map(({ runId }) => runId),
    });
  }

  async credentials(batch: string, actor: Actor): Promise<readonly Credential[]> {
    const head = await this.find(batch, actor);
    const { batches, secrets } = this.parts;
    const unshown = await batches.unshown(head);
    // Read before they are marked: a password that cannot be read now can be asked for again.
    const passwords = await Promise.all(unshown.map(async ({ ref }) => (await secrets.reveal(ref)).reveal()));
    const mine = await batches.markShown(
      head,
      unshown.map(({ ref }) => ref),
      actor.login,
    );
    const shown = unshown.flatMap(({ login, machine, user, ref }, index) =>
      mine.has(ref) ? [{ login, machine, user, password: passwords[index]! }] : [],
    );
    if (shown.length > 0) return shown;
    throw new HatcheryError(
      'not-applicable',
      `Unable to show credentials of batch ${head.name}: there are none that were not shown before`,
      {
        hint: 'They are shown once. Blueprints without signIn: generated have none.',
      },
    );
  }

  private async accept(at: {
    request: Pick<BatchRequest, 'rows' | 'skipExisting' | 'name'>;
    actor: Actor;
    ownerId: string;
    batch: { id: string; name: string; notifyUrl: string | undefined } | { existing: BatchHead };
    blueprint: { versionId: string; definition: Blueprint };
    idempotency: IdempotentRequest | undefined;
    /** Runs of failed machines, in whose place the new ones come. */
    replaces?: readonly string[];
  }): Promise<{ batchId: string; replayed: boolean }> {
    const { definition } = at.blueprint;
    const ground = await this.survey(definition);
    const workflow = this.parts.catalog.workflow(definition.workflow);
    const batch = 'existing' in at.batch ? at.batch.existing : at.batch;
    await this.parts.engine.checkpoints.reach('K10', {});
    const answer = await this.parts.batches.accept(
      {
        batch: at.batch,
        ownerId: at.ownerId,
        actor: at.actor.login,
        cluster: ground.cluster.name,
        blueprint: definition.name,
        blueprintVersionId: at.blueprint.versionId,
        workflowVersion: workflow.version,
        idempotency: at.idempotency,
        ...(at.replaces !== undefined && { replaces: at.replaces }),
      },
      (promises) => {
        const plan = this.compute(at.request, ground, promises, at.actor);
        requireAccepted(plan);
        return composeMachines({
          plan,
          rows: at.request.rows,
          blueprint: definition,
          cluster: ground.cluster,
          templates: ground.templates,
          batch,
          workflow,
          registry: this.parts.engine,
          hooks: this.parts.catalog.hooks,
          snippetPlace: ground.snippetPlace,
          phoneHomeCommand: this.parts.phoneHomeCommand(ground.cluster.name),
        });
      },
    );
    this.parts.engine.wakeUps.notify('outbox');
    this.parts.engine.wakeUps.notify('work');
    this.parts.engine.wakeUps.notify('events');
    return answer;
  }

  private async survey(blueprint: Blueprint): Promise<Ground> {
    const cluster = this.parts.catalog.cluster(blueprint.clusters[0]!);
    const hypervisor = this.parts.hypervisors.get(cluster.name);
    const call = plainCall(AbortSignal.timeout(60_000));
    const inventory = await hypervisor.inventory({ signal: call.signal });
    refuseUnknownNodes(cluster.name, inventory);
    refuseUnknownPins(blueprint, inventory);
    await this.refuseStopped(cluster.name, inventory, call.signal);
    const place = blueprint.cloudInit?.snippets && snippetPlace(cluster, inventory, blueprint.nodes);
    const ground = { blueprint, cluster, inventory, snippetPlace: place };
    const { kind, source } = blueprint;
    if ('archive' in source) {
      const archives = await hypervisor.archives(source.archive, call);
      return { ...ground, source: { archives, storage: source.storage }, templates: [], notes: [] };
    }
    const found = await hypervisor.templates(kind, source.templates, call);
    const templates = found.filter(({ problems }) => problems.length === 0);
    if (templates.length === 0)
      throw new HatcheryError(
        'template-changed',
        `Unable to use template ${found[0]!.name} of ${cluster.name}: ${found[0]!.problems.join('; ')}`,
        {
          hint: 'Mend the template, or name another one in the blueprint.',
        },
      );
    return {
      ...ground,
      source: { ...source, templates, oneCloneAtATime: kind === 'lxc' },
      templates,
      notes: [...notesOn(source.templates, found), ...(place ? snippetNotes(place) : [])],
    };
  }

  /** Nothing is promised on a cluster to which nothing is dispatched, but on one that is only paused, or out for a while. */
  private async refuseStopped(cluster: string, inventory: Inventory, signal: AbortSignal): Promise<void> {
    await this.parts.watchCluster(cluster, inventory, signal);
    const stops = await this.parts.engine.stops.of(cluster);
    const stop = stops.find((one) => one.code !== 'cluster-paused' && !passesByItself(one));
    if (stop !== undefined)
      throw new HatcheryError(stop.code, stop.message, {
        retry: 'after-fix',
        ...(stop.hint !== undefined && { hint: stop.hint }),
        ...(stop.facts !== undefined && { facts: stop.facts }),
      });
  }

  private compute(
    request: Pick<BatchRequest, 'rows' | 'skipExisting'>,
    ground: Ground,
    promises: Promises,
    actor: Actor,
  ): BatchPlan {
    const { blueprint, cluster, inventory, source } = ground;
    requireLogins(request.rows, blueprint);
    return planBatch({
      rows: request.rows,
      notes: ground.notes,
      nameFrom: blueprint.nameFrom,
      size: defaultSize(blueprint),
      takenNames: promises.names,
      existing: batchesOf(promises.people, actor),
      skipExisting: request.skipExisting,
      vmids: {
        range: cluster.vmids,
        used: new Set([...promises.vmids, ...inventory.guests.map((guest) => guest.vmid)]),
        resting: promises.restingVmids,
      },
      placement: {
        source,
        nodes: inventory.nodes,
        storages: inventory.storages,
        reserved: promised(promises),
        exclude: { byCluster: cluster.nodes.exclude, byBlueprint: blueprint.nodes?.exclude ?? [] },
        pinned: blueprint.nodes?.only,
      },
    });
  }

  private async find(batch: string, actor: Actor): Promise<BatchHead> {
    const head = await this.parts.batches.findBatch(batch, ownerOf(actor));
    if (!head) throw notFound('batch', batch);
    return head;
  }

  private async gone(head: BatchHead, actor: Actor, onlyIfSettled: boolean): Promise<void> {
    if (head.isDeleted) return;
    await this.parts.batches.wantBatchGone(head, actor.login, onlyIfSettled);
    this.parts.engine.wakeUps.notify('gone');
  }
}

/** A misspelt name excludes nothing: machines would be placed on the node that was to get none. */
function refuseUnknownNodes(cluster: string, { nodes, unknownNodes }: Inventory): void {
  if (unknownNodes.length === 0) return;
  throw new HatcheryError(
    'settings-invalid',
    `Unable to place machines on cluster ${cluster}: its definition excludes ${unknownNodes.join(', ')}, and the cluster has no such node`,
    {
      hint: `Write names of the cluster's nodes in nodes.exclude (others are ${nodes.map(({ name }) => name).join(', ')}).`,
    },
  );
}

function refuseUnknownPins(blueprint: Blueprint, { nodes }: Inventory): void {
  const named = [...(blueprint.nodes?.only ?? []), ...(blueprint.nodes?.exclude ?? [])];
  const unknown = named.filter((name) => !nodes.some((node) => node.name === name));
  if (unknown.length === 0) return;
  throw new HatcheryError(
    'settings-invalid',
    `Unable to place machines of blueprint ${blueprint.name}: it names ${unknown.join(', ')}, and the cluster has no such node`,
    { hint: `Write names of the cluster's nodes in nodes (${nodes.map(({ name }) => name).join(', ')}).` },
  );
}

/** Copies of the template that a plan does without. */
function notesOn(names: readonly string[], found: readonly TemplateInfo[]): string[] {
  const missing = names.filter((name) => !found.some((one) => one.name === name));
  return [
    ...missing.map((name) => `No template is named ${name}: the batch does without that copy.`),
    ...found
      .filter(({ problems }) => problems.length > 0)
      .map(
        ({ name, vmid, node, problems }) =>
          `Template ${name} (${vmid} on ${node}) is left out: ${problems.join('; ')}.`,
      ),
  ];
}

/** Accepted machines that the inventory does not count yet, added up. */
function promised(promises: Promises): Promised {
  const perNode = new Map<string, { memoryMiB: number; cores: number }>();
  const perStorageGiB = new Map<string, number>();
  const perTemplate = new Map<number, number>();
  for (const machine of promises.unseen) {
    const { template } = machine;
    if (template !== undefined) perTemplate.set(template, (perTemplate.get(template) ?? 0) + 1);
    const node = perNode.get(machine.node) ?? { memoryMiB: 0, cores: 0 };
    perNode.set(machine.node, {
      memoryMiB: node.memoryMiB + machine.memoryMiB,
      cores: node.cores + machine.cores,
    });
    perStorageGiB.set(machine.storageKey, (perStorageGiB.get(machine.storageKey) ?? 0) + machine.diskGiB);
  }
  return { perNode, perStorageGiB, perTemplate };
}

/** The batches by name, but a teacher is not told those of others. */
const batchesOf = (people: Promises['people'], actor: Actor): ReadonlyMap<string, string | undefined> =>
  new Map(
    [...people].map(([login, { batch, ownerId }]) => [
      login,
      actor.role === 'admin' || ownerId === actor.userId ? batch : undefined,
    ]),
  );

const notFound = (what: string, name: string): HatcheryError =>
  new HatcheryError('not-found', `Unable to find ${what} ${name}`, {
    hint: `List what there is: hatchery ${what} list`,
  });

function checkName(name: string): void {
  const problem = batchNameProblem(name);
  if (problem)
    throw new HatcheryError(
      'request-invalid',
      `Unable to use the name "${name}" for a batch: ${problem.detail}`,
      { hint: problem.hint },
    );
}

/** The content that a key stands for: parsed rows and fields, not the bytes of the file. */
function idempotent(
  actor: Actor,
  route: string,
  key: string | undefined,
  request: {
    rows: readonly RosterRow[];
    skipExisting: boolean;
    name?: string;
    blueprint?: string;
    notifyUrl?: string;
  },
): IdempotentRequest | undefined {
  if (key === undefined) return undefined;
  const content = [
    request.name ?? null,
    request.blueprint ?? null,
    request.skipExisting,
    request.notifyUrl ?? null,
    request.rows,
  ];
  return {
    userId: actor.userId,
    route,
    key,
    hash: createHash('sha256').update(JSON.stringify(content)).digest('hex'),
  };
}

/** Logins that become names of folders and accounts in machines. */
function requireLogins(rows: readonly RosterRow[], { container, cloudInit }: Blueprint): void {
  const problems = rows.flatMap(({ row, login }) => {
    const detail =
      (container && loginProblem(container, login)) ??
      (cloudInit?.snippets && snippetLoginProblem(cloudInit.snippets, login));
    return detail === undefined ? [] : [{ row, column: 'login', code: 'login-invalid', detail }];
  });
  if (problems.length > 0)
    throw new HatcheryError(
      'roster-invalid',
      `Unable to read the roster: logins cannot be used in ${container ? 'containers' : 'cloud-init data'}`,
      {
        problems,
      },
    );
}
