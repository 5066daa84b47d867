import { randomBytes } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import { localMac } from '../core/address.js';
import type { BatchPlan } from '../core/batch-plan.js';
import { containerSchema, defaultSize, type Blueprint, type ClusterDefinition } from '../core/definitions.js';
import {
  snippetFiles,
  snippetNodes,
  type SnippetMachine,
  type SnippetPlace,
} from '../core/cloud-init/snippets.js';
import { composeOnNode, type RegisteredHook } from '../core/lxc/on-node.js';
import { foldAccents } from '../core/fold-accents.js';
import type { MachineInput } from '../core/machine.js';
import type { RosterRow } from '../core/roster/roster.js';
import type { CompiledPlan } from '../plan/compiled-plan.js';
import type { NewMachine } from '../ports/batch-store.js';
import type { TemplateInfo } from '../ports/hypervisor.js';
import type { LoadedRun, StepRow } from '../ports/run-store.js';
import type { Registry } from '../plan/step.js';
import { RunModel } from './run-model.js';

interface Composition {
  readonly plan: BatchPlan;
  readonly rows: readonly RosterRow[];
  readonly blueprint: Blueprint;
  readonly cluster: Pick<ClusterDefinition, 'name' | 'pool' | 'containers'>;
  readonly hooks: ReadonlyMap<string, RegisteredHook>;
  readonly templates: readonly TemplateInfo[];
  readonly batch: { readonly id: string; readonly name: string };
  readonly workflow: CompiledPlan;
  readonly registry: Registry;
  /** Where cloud-init files go, for a blueprint that has some. */
  readonly snippetPlace: SnippetPlace | undefined;
  /** With which machines of the cluster tell their address by themselves. */
  readonly phoneHomeCommand: readonly string[] | undefined;
}

/** Turns the accepted items of a plan into machines with runs whose first steps are due. */
export function composeMachines(at: Composition): NewMachine[] {
  const rows = new Map(at.rows.map((row) => [row.row, row]));
  const templates = new Map(at.templates.map((template) => [template.vmid, template]));
  const { blueprint } = at;
  return at.plan.items.flatMap((item) => {
    const row = rows.get(item.row);
    const template = item.template === undefined ? undefined : templates.get(item.template);
    if (
      item.verdict !== 'ok' ||
      row === undefined ||
      (template === undefined && item.archive === undefined) ||
      item.vmid === undefined ||
      item.node === undefined ||
      item.storage === undefined
    )
      return [];
    const id = uuidv7();
    const mac = localMac(randomBytes(5));
    const user = {
      name: blueprint.cloudInit ? userName(blueprint.cloudInit.user, row.login) : 'root',
      sshKeys: sshKeys(blueprint, row),
    };
    const onNode =
      blueprint.container && composeOnNode(blueprint.container, at.cluster.containers, at.hooks, row.login);
    const isDiskShared = item.storageShared ?? template?.storageShared ?? false;
    const snippets = snippetsOf(
      at,
      { id, name: item.machine, mac, login: row.login, user },
      { node: item.node, isDiskShared },
    );
    const input: MachineInput = {
      id,
      kind: blueprint.kind,
      name: item.machine,
      cluster: at.cluster.name,
      node: item.node,
      mac,
      pool: at.cluster.pool,
      blueprint: blueprint.name,
      ...(template && { template: pinned(template) }),
      ...(item.archive !== undefined && { archive: { volume: item.archive } }),
      ...('clone' in blueprint.source && { clone: blueprint.source.clone }),
      storage: item.storage,
      ...(item.storageShared !== undefined && { storageShared: item.storageShared }),
      size: defaultSize(at.blueprint),
      network: {
        bridge: at.blueprint.network.bridge,
        ...(at.blueprint.network.vlan === undefined ? {} : { vlan: at.blueprint.network.vlan }),
        ...(at.blueprint.network.dhcp === undefined ? {} : { dhcp: at.blueprint.network.dhcp }),
      },
      user,
      ...(blueprint.kind === 'lxc' && { container: containerOf(blueprint) }),
      ...(onNode && { onNode }),
      ...(snippets && { snippets }),
      owner: {
        login: row.login,
        lastName: row.lastName,
        firstName: row.firstName,
        ...(row.email === undefined ? {} : { email: row.email }),
        ...(row.group === undefined ? {} : { group: row.group }),
      },
      ...(at.blueprint.access === undefined
        ? {}
        : { access: { ...at.blueprint.access, group: groupName(at.batch) } }),
      description: `${`${row.firstName} ${row.lastName}`.trim() || row.login} (${row.login}), ${at.batch.name}`,
    };
    return [newMachine(at.workflow, at.registry, row, item.vmid, input, at.batch.id)];
  });
}

function snippetsOf(
  { blueprint, snippetPlace, phoneHomeCommand }: Composition,
  machine: SnippetMachine,
  { node, isDiskShared }: { readonly node: string; readonly isDiskShared: boolean },
): MachineInput['snippets'] {
  const wanted = blueprint.cloudInit?.snippets;
  if (wanted === undefined || snippetPlace === undefined) return undefined;
  return {
    storage: snippetPlace.storage,
    shared: snippetPlace.shared,
    ...snippetNodes(snippetPlace, node, isDiskShared),
    files: snippetFiles(wanted, machine, phoneHomeCommand),
  };
}

const pinned = (template: TemplateInfo): NonNullable<MachineInput['template']> => ({
  name: template.name,
  vmid: template.vmid,
  node: template.node,
  digest: template.digest,
  disk: template.disk,
  storage: template.storage,
  storageShared: template.storageShared,
  diskGiB: template.diskGiB,
});

function containerOf({ container }: Blueprint): NonNullable<MachineInput['container']> {
  const { swapMiB, nesting } = containerSchema.parse(container ?? {});
  return { swapMiB, nesting };
}

/** Ends in a part of the batch's id: a group of this name is ours, whoever else names groups on that gateway. */
const groupName = (batch: { id: string; name: string }): string => `${batch.name} #${batch.id.slice(-8)}`;

/** A POSIX user name from a login, e.g. "Élodie.Du Pré" gives "elodie.du-pre" without dots: `elodie-du-pre`. */
function userName(pattern: string, login: string): string {
  if (pattern !== '{login}') return pattern;
  const name = foldAccents(login)
    .toLowerCase()
    .replaceAll(/[^a-z0-9_-]/g, '-')
    .slice(0, 32);
  return /^[a-z_]/.test(name) ? name : `u${name}`.slice(0, 32);
}

function sshKeys({ cloudInit, container, siteSshKeys }: Blueprint, row: RosterRow): string[] {
  const { sshKeys: from } = cloudInit ?? containerSchema.parse(container ?? {});
  return [...(from.includes('roster') ? row.sshKeys : []), ...(from.includes('site') ? siteSshKeys : [])];
}

/** One machine with its run: nothing is due but what needs nothing. */
export function newMachine(
  workflow: CompiledPlan,
  registry: Registry,
  row: RosterRow,
  vmid: number,
  input: MachineInput,
  batchId: string,
): NewMachine {
  const runId = uuidv7();
  const steps = workflow.steps.map((step): StepRow => ({
    id: uuidv7(),
    key: step.key,
    uses: step.uses,
    version: step.version,
    rank: step.rank,
    state: 'pending',
    dueAtMs: undefined,
    slots: undefined,
    groupKey: undefined,
    isGathering: false,
    dispatch: 0,
    epoch: 0,
    workerId: undefined,
    claimedAtMs: undefined,
    tries: 0,
    firstClaimedAtMs: undefined,
    input: undefined,
    output: undefined,
    remote: {},
    error: undefined,
    percent: undefined,
  }));
  const loaded: LoadedRun = {
    plan: workflow,
    run: {
      id: runId,
      machineId: input.id,
      batchId,
      workflowVersion: workflow.version,
      inputs: { machine: input },
      state: 'queued',
      wanted: 'done',
      error: undefined,
      undoEndsAs: undefined,
      deaths: 0,
      deathsAmong: 0,
      deathsAlone: 0,
      version: 0,
    },
    machine: {
      id: input.id,
      cluster: input.cluster,
      mac: input.mac,
      vmid,
      node: input.node,
      state: 'reserved',
      incarnation: undefined,
      address: undefined,
      link: undefined,
      secretRef: undefined,
      error: undefined,
      phoneHome: undefined,
    },
    steps,
    effects: [],
    attemptEnds: [],
    isClusterStopped: false,
    parkedUses: new Set(),
    nowMs: 0,
    readAtMs: 0,
  };
  const model = new RunModel(loaded, registry, {
    settleMs: 0,
    backOffScale: 1,
    waitLimitMs: 0,
    place: () => 0,
    random: () => 0,
  });
  model.advance();
  return {
    id: input.id,
    runId,
    row: row.row,
    loginKey: row.loginKey,
    vmid,
    input,
    steps,
    changes: model.changes,
  };
}
