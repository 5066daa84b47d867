import { HatcheryError } from '../core/errors.js';
import { firstBootArguments } from '../core/lxc/first-boot.js';
import { homeMount, homePath } from '../core/lxc/home.js';
import { missingSubids } from '../core/lxc/identities.js';
import {
  FIRST_BOOT,
  rawConfig,
  type HookInput,
  type OnNodeInput,
  type PlacedHook,
} from '../core/lxc/on-node.js';
import { mergeRawLines, rawLineText, type HostMount } from '../core/lxc/raw-lines.js';
import { defineStep, type StepPorts, type StepRun } from '../plan/step.js';
import type { NodeFiles } from '../ports/node-files.js';
import { findContainer, writeRawLines } from './container-node.js';
import { hookFile, hookFilesEffect } from './hook-files.js';
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
    const found = await findContainer(
      { files, hypervisor },
      run.machine.identity,
      run.machine.node,
      run.call,
    );
    if (found === undefined) throw refused(run, 'it is not there any more');
    const { node } = found.at;
    if (node !== run.machine.node) {
      // The files were recorded for the node that it was on.
      run.learn({ node });
      throw new HatcheryError(
        'remote-refused',
        `Unable to write the config of guest ${run.machine.vmid}: it moved to ${node}`,
        {
          retry: 'later',
        },
      );
    }
    // Identities and hooks of a container whose root is the node's root would be a way out of it.
    if (found.file.keys.get('unprivileged') !== '1') throw refused(run, 'it is not unprivileged');
    await requireSubids(files, node, onNode, run);
    const home = await resolveHome(files, node, onNode, run);
    const placed: PlacedHook[] = [];
    for (const hook of onNode.hooks) placed.push(await placeHook(ports, node, machine, hook, run));
    const kept = new Set(onNode.templateLines);
    const { lines, unknown } = mergeRawLines(found.file.rawLines, rawConfig(onNode, home, placed), kept);
    if (unknown.length > 0) throw unknownLines(run, unknown.map(rawLineText));
    await writeRawLines(files, found, lines, run.call);
    return {};
  },
});

/** Without them the container would be refused by the kernel at its start, with a word that nobody understands. */
async function requireSubids(
  files: NodeFiles,
  node: string,
  { identities }: OnNodeInput,
  run: StepRun,
): Promise<void> {
  if (identities.length === 0) return;
  const { subuid, subgid } = missingSubids(identities, await files.idRanges(node, run.call));
  const lines = [
    ...subuid.map((line) => `${line} in /etc/subuid`),
    ...subgid.map((line) => `${line} in /etc/subgid`),
  ];
  if (lines.length === 0) return;
  throw new HatcheryError(
    'remote-refused',
    `Unable to give guest ${run.machine.vmid} its identities: node ${node} lacks ${lines.join(', ')}`,
    {
      retry: 'after-fix',
      hint: `Add the lines on every node that may run the container, then: hatchery run retry ${run.runId}`,
    },
  );
}

async function resolveHome(
  files: NodeFiles,
  node: string,
  { home }: OnNodeInput,
  run: StepRun,
): Promise<HostMount | undefined> {
  if (home === undefined) return undefined;
  const path = homePath(home);
  const root = await files.resolvePath(node, home.root, run.call);
  return homeMount(home, root, root && (await files.resolvePath(node, path, run.call)));
}

async function placeHook(
  ports: StepPorts,
  node: string,
  machine: Machine,
  hook: HookInput,
  run: StepRun,
): Promise<PlacedHook> {
  const files = ports.nodeFiles(machine.cluster);
  const bytes = ports.hookScripts.find(hook.sha256);
  if (bytes === undefined)
    throw refused(
      run,
      `the hook ${hook.name} is not registered any more as it was when the machine was asked for (${hook.sha256})`,
    );
  const script = await files.putFile(
    hookFile(node, 'hooks', machine.id, hook),
    { bytes, mode: 'runnable' },
    run.call,
  );
  if (script.sha256 !== hook.sha256)
    throw refused(run, `${script.path} on ${node} is not the hook ${hook.name}`);
  const given = await files.putFile(
    hookFile(node, 'arguments', machine.id, hook),
    { bytes: Buffer.from(JSON.stringify(hookArguments(ports, machine, hook, run))), mode: 'guest' },
    run.call,
  );
  const report = hook.reports
    ? await files.putFile(
        hookFile(node, 'reports', machine.id, hook),
        { bytes: Buffer.alloc(0), mode: 'guest', keeps: true },
        run.call,
      )
    : undefined;
  return { hook, script: script.path, arguments: given.path, report: report?.path };
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
