import { z } from 'zod';
import { HatcheryError } from '../core/errors.js';
import { formatMark } from '../core/mark.js';
import {
  defineEffect,
  undoneAsGroup,
  type AnyEffect,
  type CoalesceUndo,
  type EffectLook,
  type MachineSnapshot,
} from '../plan/step.js';
import type { FoundConnection } from '../ports/desktop-gateway.js';
import type { TaskRef } from '../ports/hypervisor.js';
import { containerConfig, hookFilesOfMachine } from './container-effects.js';
import { leftNote } from './guest-effect.js';
import { connectionMark, userMark } from './register-desktop.step.js';
import { snippetFilesOfMachine } from './snippet-effects.js';

/** How everything that steps make is removed again. A kind and its version stay here for ever: old runs need them. */

const retry = { attempts: 12, first: '2s', max: '2m' } as const;

/**
 * What is foreign under a name of which we only had the intent proves that ours never came to be: nothing to undo.
 * What was ours once and is foreign now is for a person to judge.
 */
async function removeOurs(wasMade: boolean, remove: () => Promise<unknown>): Promise<void> {
  try {
    await remove();
  } catch (error) {
    if (wasMade || !isForeign(error)) throw error;
  }
}

const nothing: EffectLook = { found: 'nothing' };

/** Where a name is all that tells, it is one that nobody else gives. */
const byName = (thing: object | undefined, proof: string): EffectLook =>
  thing === undefined ? nothing : { found: 'ours', proof };

const isForeign = (error: unknown): boolean =>
  error instanceof HatcheryError && error.code === 'foreign-guest';

const guestOf = (kind: 'guest' | 'container') =>
  defineEffect({
    kind,
    version: 1,
    payload: z.object({ cluster: z.string(), vmid: z.number().int(), pool: z.string() }),
    // Each disk of a destroy takes the storage's lock; one that does not get it in 10 s is left behind by the cluster.
    slots: ({ cluster }) => [`destroys@cluster:${cluster}`],
    locks: ({ cluster, vmid }) => [`guest:${cluster}/${vmid}`],
    timeout: '30m',
    retry,
    async look({ cluster, vmid }, ports, { machine, call }) {
      const own = await ports.hypervisor(cluster).readOwn({ ...machine.identity, vmid }, call);
      if (own.answer === 'none') return nothing;
      if (own.answer !== 'ours') return { found: own.answer, why: own.why };
      const { node, incarnation, mark } = own.guest;
      return {
        found: 'ours',
        proof: `guest ${vmid} on ${node} carries ${formatMark(mark)}`,
        facts: { node, ...(incarnation !== undefined && { incarnation }) },
      };
    },
    async undo({ cluster, vmid }, ports, run) {
      const hypervisor = ports.hypervisor(cluster);
      const task = (run.remote[`clone-${vmid}`] ?? run.remote[`create-${vmid}`]) as TaskRef | undefined;
      // Our own task first runs to its end: a guest cannot be judged, let alone removed, while it is being made.
      const made =
        task === undefined || run.confirmed ? undefined : await hypervisor.followTask(task, run.call);
      await removeOurs(run.confirmed || made?.verdict === 'ok', () =>
        hypervisor.destroyOwn(
          { ...run.machine.identity, vmid },
          { incarnations: incarnationsOf(run.machine), deletingRun: run.runId },
          run.call,
        ),
      );
      if (made?.verdict === 'error' && made.leavesVolume) await run.noteVmid(leftNote(vmid, made.text));
    },
  });

/** A cloned container gets our MAC when it is configured, and until then has the one that it was first seen with. */
const incarnationsOf = ({ incarnation, mac, identity }: MachineSnapshot): string[] =>
  incarnation === undefined ? [] : [incarnation, ...(identity.kind === 'lxc' ? [mac] : [])];

interface DhcpFilter {
  readonly service: string;
  readonly mac: string;
  readonly description: string;
}

/** Nobody waits for it, and the guests of a class go one after the other: the window is as long as some of them take. */
const removeFilters: CoalesceUndo<DhcpFilter> = {
  key: ({ service }) => `dhcp:${service}`,
  windowMs: 15_000,
  max: 50,
  async undoMany(members, ports, call) {
    const entries = members.map(({ input: { mac, description } }) => ({ mac, description }));
    const outcomes = await ports.dhcp(members[0]!.input.service).disallow(entries, call);
    return outcomes.map((outcome, index) =>
      outcome instanceof HatcheryError && (members[index]!.run.confirmed || !isForeign(outcome))
        ? outcome
        : undefined,
    );
  },
};

const dhcpFilter = defineEffect<DhcpFilter>({
  kind: 'dhcp-filter',
  version: 1,
  payload: z.object({ service: z.string(), mac: z.string(), description: z.string() }),
  slots: ({ service }) => [`shells@dhcp:${service}`],
  locks: ({ service, mac }) => [`dhcp:${service}/${mac}`],
  timeout: '3m',
  retry,
  async look({ service, mac, description }, ports, { call }) {
    const [entry] = await ports.dhcp(service).findAllowed([mac], call);
    if (entry === undefined) return nothing;
    return entry.description === description
      ? { found: 'ours', proof: `the entry of ${mac} is described as "${description}"` }
      : { found: 'foreign', why: `the entry of ${mac} is described as "${entry.description}"` };
  },
  coalesce: removeFilters,
  ...undoneAsGroup(removeFilters),
});

const desktopGroup = defineEffect({
  kind: 'desktop-group',
  version: 1,
  payload: z.object({ service: z.string(), group: z.string() }),
  locks: ({ service, group }) => [`desktop:${service}/group/${group}`],
  timeout: '3m',
  retry,
  async look({ service, group }, ports, { call }) {
    return byName(
      await ports.desktopGateway(service).findGroup(group, call),
      `the group ${group} ends in the id of its batch`,
    );
  },
  async undo({ service, group }, ports, run) {
    await ports.desktopGateway(service).removeGroup(group, run.call);
  },
});

const desktopUser = defineEffect({
  kind: 'desktop-user',
  version: 1,
  payload: z.object({ service: z.string(), login: z.string() }),
  locks: ({ service, login }) => [`desktop:${service}/user/${login}`],
  timeout: '3m',
  retry,
  async look({ service, login }, ports, { machine, call }) {
    const mark = userMark(machine.identity.deployment);
    const user = await ports.desktopGateway(service).findUser(login, mark, call);
    if (user === undefined) return nothing;
    return user.ours
      ? { found: 'ours', proof: `the account ${login} carries "${mark}"` }
      : { found: 'foreign', why: `the account ${login} does not carry "${mark}"` };
  },
  async undo({ service, login }, ports, run) {
    await ports
      .desktopGateway(service)
      .removeUser(login, userMark(run.machine.identity.deployment), run.call);
  },
});

/** Whether a connection of the machine's name is the one that we made for it; `mark` = what we mark it with. */
type IsOurs = (found: FoundConnection, mark: string) => boolean;

const isMarked: IsOurs = (found, mark) => found.mark === mark;

/** All that was ever written into a connection before connections were marked. */
const unmarkedParameters = z.strictObject({
  hostname: z.string(),
  port: z.string(),
  'ignore-cert': z.literal('true').optional(),
  'resize-method': z.literal('display-update').optional(),
  username: z.string().optional(),
  password: z.literal('${GUAC_PASSWORD}').optional(),
});

const isMarkedOrOld: IsOurs = (found, mark) =>
  isMarked(found, mark) ||
  (found.mark === undefined && unmarkedParameters.safeParse(found.parameters).success);

const desktopConnection = (version: number, isOurs: IsOurs) =>
  defineEffect({
    kind: 'desktop-connection',
    version,
    payload: z.object({ service: z.string(), group: z.string(), name: z.string() }),
    locks: ({ service, group, name }) => [`desktop:${service}/connection/${group}/${name}`],
    timeout: '3m',
    retry,
    async look({ service, group, name }, ports, { machine, call }) {
      const gateway = ports.desktopGateway(service);
      const there = await gateway.findGroup(group, call);
      const found = there && (await gateway.findConnection(there.id, name, call));
      if (found === undefined) return nothing;
      const mark = connectionMark(machine.identity);
      if (!isOurs(found, mark))
        return {
          found: 'foreign',
          why: `the connection ${name} of our group ${group} does not carry "${mark}"`,
        };
      const proof = isMarked(found, mark) ? `carries "${mark}"` : `has the parameters that we write`;
      return { found: 'ours', proof: `the connection ${name} of our group ${group} ${proof}` };
    },
    async undo({ service, group, name }, ports, run) {
      const gateway = ports.desktopGateway(service);
      const mark = connectionMark(run.machine.identity);
      const there = await gateway.findGroup(group, run.call);
      if (there === undefined) return;
      await removeOurs(run.confirmed, () =>
        gateway.removeConnection(there.id, name, (found) => isOurs(found, mark), run.call),
      );
    },
  });

/** A permission on a connection that is not ours is not ours either. */
const desktopPermission = (version: number, isOurs: IsOurs) =>
  defineEffect({
    kind: 'desktop-permission',
    version,
    payload: z.object({ service: z.string(), group: z.string(), name: z.string(), login: z.string() }),
    locks: ({ service, group, name }) => [`desktop:${service}/connection/${group}/${name}`],
    timeout: '3m',
    retry,
    async look({ service, group, name, login }, ports, { machine, call }) {
      const gateway = ports.desktopGateway(service);
      const there = await gateway.findGroup(group, call);
      const found = there && (await gateway.findConnection(there.id, name, call));
      if (!there || !found || !isOurs(found, connectionMark(machine.identity))) return nothing;
      return (await gateway.hasPermission(login, found.id, there.id, call))
        ? { found: 'ours', proof: `${login} may open the connection ${name} of our group ${group}` }
        : nothing;
    },
    async undo({ service, group, name, login }, ports, run) {
      const gateway = ports.desktopGateway(service);
      const there = await gateway.findGroup(group, run.call);
      const found = there && (await gateway.findConnection(there.id, name, run.call));
      if (there && found && isOurs(found, connectionMark(run.machine.identity)))
        await gateway.revoke(login, found.id, there.id, run.call);
    },
  });

/** By `kind@version`. */
export const EFFECTS: ReadonlyMap<string, AnyEffect> = new Map(
  [
    guestOf('guest'),
    guestOf('container'),
    dhcpFilter,
    desktopGroup,
    desktopUser,
    desktopConnection(1, isMarkedOrOld),
    desktopConnection(2, isMarked),
    desktopPermission(1, isMarkedOrOld),
    desktopPermission(2, isMarked),
    containerConfig,
    hookFilesOfMachine,
    snippetFilesOfMachine,
  ].map((effect: AnyEffect) => [`${effect.kind}@${effect.version}`, effect]),
);
