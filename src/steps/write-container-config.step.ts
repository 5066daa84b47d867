import { createHash } from 'node:crypto';
import { HatcheryError } from '../core/errors.js';
import { firstBootArguments } from '../core/lxc/first-boot.js';
import { homeMount, homePath } from '../core/lxc/home.js';
import { missingSubids, type MappableIds } from '../core/lxc/identities.js';
import {
  FIRST_BOOT,
  rawConfig,
  type HookInput,
  type OnNodeInput,
  type PlacedHook,
} from '../core/lxc/on-node.js';
import { mergeRawLines, rawLineText } from '../core/lxc/raw-lines.js';
import { defineStep, type StepPorts, type StepRun } from '../plan/step.js';
import type { FileMode, NodeFileRef, NodeFiles } from '../ports/node-files.js';
import { findContainer, writeRawLines } from './container-node.js';
import { hookFile, hookFilesEffect, pathOnNode } from './hook-files.js';
import { guestLock, noOutput, onMachine, type OnMachine } from './machine-step.js';

type Machine = OnMachine['machine'];

/** What the cluster's API does not give to a container: identities, home and hooks, as raw lines of its config file on its node. */
export const writeContainerConfig = defineStep<OnMachine, object>({
  id: 'write-container-config',
  version: 1,
  only: { kind: 'lxc' },
  summary: 'Write identities, home and hooks of the container on its node',
  input: onMachine,
  output: noOutput,
  locks: ({ machine }, at) => [guestLock(machine, at)],
  effects: ({ machine }, at) => [
    ...((machine.onNode?.hooks ?? []).length === 0
      ? []
      : [hookFilesEffect(machine.cluster, at.node, machine.id, machine.onNode!.hooks)]),
    {
      kind: 'container-config',
      version: 1,
      system: machine.cluster,
      key: String(at.vmid),
      payload: { cluster: machine.cluster, vmid: at.vmid },
    },
  ],
  timeout: '3m',
  retry: { attempts: 8, first: '2s', max: '1m' },
  unskippable:
    'without it the container starts without the identities and the first boot that were asked for',
  lateWrites:
    'The raw lines carry the digest of the config that was read: a late write is refused. A late file has the same content, and a report that is there stays.',
  async act({ machine }, ports, run) {
    const { onNode } = machine;
    if (onNode === undefined) return {};
    const files = ports.nodeFiles(machine.cluster);
    const hypervisor = ports.hypervisor(machine.cluster);
    const { identity, node } = run.machine;
    // One conversation with the node, and another one for all that is written.
    const [found, mappable, home] = await Promise.all([
      findContainer({ files, hypervisor }, identity, node, run.call),
      onNode.identities.length === 0 ? undefined : files.idRanges(node, run.call),
      resolveHome(files, node, onNode, run),
    ]);
    if (found === undefined) throw refused(run, 'it is not there any more');
    if (found.at.node !== node) {
      // The files were recorded for the node that it was on.
      run.learn({ node: found.at.node });
      throw new HatcheryError(
        'remote-refused',
        `Unable to write the config of guest ${run.machine.vmid}: it moved to ${found.at.node}`,
        { retry: 'later' },
      );
    }
    // Identities and hooks of a container whose root is the node's root would be a way out of it.
    if (found.file.keys.get('unprivileged') !== '1') throw refused(run, 'it is not unprivileged');
    if (mappable) requireSubids(mappable, onNode, run);
    const mount = home && homeMount(home.asked, home.root, home.resolved);
    const hooks = onNode.hooks.map((hook) => hookOnNode(ports, machine, hook, run));
    const kept = new Set(onNode.templateLines);
    const wanted = rawConfig(
      onNode,
      mount,
      hooks.map(({ placed }) => placed),
    );
    const { lines, unknown } = mergeRawLines(found.file.rawLines, wanted, kept);
    if (unknown.length > 0) throw unknownLines(run, unknown.map(rawLineText));
    // The container is not started before all of it is done: lines may be there before the files that they name.
    await Promise.all([
      ...hooks.flatMap((hook) => hook.files).map((file) => putWhole(files, file, run)),
      writeRawLines(files, found, lines, run.call),
    ]);
    return {};
  },
});

/** Without them the container would be refused by the kernel at its start, with a word that nobody understands. */
function requireSubids(mappable: MappableIds, { identities }: OnNodeInput, run: StepRun): void {
  const { subuid, subgid } = missingSubids(identities, mappable);
  const lines = [
    ...subuid.map((line) => `${line} in /etc/subuid`),
    ...subgid.map((line) => `${line} in /etc/subgid`),
  ];
  if (lines.length === 0) return;
  const { vmid, node } = run.machine;
  throw new HatcheryError(
    'remote-refused',
    `Unable to give guest ${vmid} its identities: node ${node} lacks ${lines.join(', ')}`,
    {
      retry: 'after-fix',
      hint: `Add the lines on every node that may run the container, then: hatchery run retry ${run.runId}`,
    },
  );
}

async function resolveHome(files: NodeFiles, node: string, { home }: OnNodeInput, run: StepRun) {
  if (home === undefined) return undefined;
  const path = homePath(home);
  const [root, resolved] = await Promise.all([
    files.resolvePath(node, home.root, run.call),
    files.resolvePath(node, path, run.call),
  ]);
  return { asked: home, root, resolved };
}

interface HookOnNode {
  readonly placed: PlacedHook;
  readonly files: readonly FileToPut[];
}

interface FileToPut {
  readonly ref: NodeFileRef;
  readonly bytes: Buffer;
  readonly mode: FileMode;
  readonly keeps?: boolean;
}

function hookOnNode(ports: StepPorts, machine: Machine, hook: HookInput, run: StepRun): HookOnNode {
  const { node } = run.machine;
  const bytes = ports.hookScripts.find(hook.sha256);
  if (bytes === undefined)
    throw refused(
      run,
      `the hook ${hook.name} is not registered any more as it was when the machine was asked for (${hook.sha256})`,
    );
  const script = hookFile(node, 'hooks', machine.id, hook);
  const given = hookFile(node, 'arguments', machine.id, hook);
  const report = hook.reports ? hookFile(node, 'reports', machine.id, hook) : undefined;
  const said = JSON.stringify(hookArguments(ports, machine, hook, run));
  return {
    placed: {
      hook,
      script: pathOnNode(script),
      arguments: pathOnNode(given),
      report: report && pathOnNode(report),
    },
    files: [
      { ref: script, bytes, mode: 'runnable' },
      { ref: given, bytes: Buffer.from(said), mode: 'guest' },
      // What an earlier start reported stays.
      ...(report ? [{ ref: report, bytes: Buffer.alloc(0), mode: 'guest', keeps: true } as const] : []),
    ],
  };
}

/** A script stands as it was registered, where the lines name it. */
async function putWhole(files: NodeFiles, { ref, ...content }: FileToPut, run: StepRun): Promise<void> {
  const { path, sha256 } = await files.putFile(ref, content, run.call);
  if (path !== pathOnNode(ref)) throw refused(run, `${ref.name} lies at ${path} on ${ref.node}`);
  const wanted = createHash('sha256').update(content.bytes).digest('hex');
  if (content.keeps !== true && sha256 !== wanted)
    throw refused(run, `${path} on ${ref.node} is not what was put there`);
}

function hookArguments(ports: StepPorts, machine: Machine, hook: HookInput, run: StepRun): object {
  const firstBoot = machine.onNode?.firstBoot;
  if (hook.name !== FIRST_BOOT || firstBoot === undefined) return hook.arguments;
  const account = firstBoot.domain === undefined ? undefined : ports.domainJoin(firstBoot.domain);
  return firstBootArguments(
    firstBoot,
    { mac: run.machine.mac, login: machine.owner.login },
    account && { realm: account.realm, user: account.user, password: account.password.reveal() },
  );
}

const refused = (run: StepRun, why: string): HatcheryError =>
  new HatcheryError('remote-refused', `Unable to write the config of guest ${run.machine.vmid}: ${why}`, {
    retry: 'after-fix',
    hint: `Mend that, then: hatchery run retry ${run.runId}`,
  });

/** A template's hook runs as root on the node. */
const unknownLines = (run: StepRun, lines: readonly string[]): HatcheryError =>
  new HatcheryError(
    'remote-refused',
    `Unable to use guest ${run.machine.vmid}: its template brought lines that nobody allowed: ${lines.join('; ').slice(0, 500)}`,
    {
      retry: 'after-fix',
      hint: 'Take them out of the template, or write them into containers.templateLines of the cluster and create the machine anew.',
    },
  );
