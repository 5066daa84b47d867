import { z } from 'zod';
import type { SimulatorName } from './names.js';

const vmid = z.number().int().min(100).optional();
const node = z.string().min(1).optional();
/** Simulated milliseconds after which it is as before; left out = for good. */
const forMs = z.number().positive().optional();
const who = z.string().min(1).default('alice');

/** An act with its own fields; every one can come `inMs` after its point, beside the operation. */
const act = <Name extends string, Shape extends z.ZodRawShape>(
  name: Name,
  shape: Shape,
): z.ZodObject<{ do: z.ZodLiteral<Name>; inMs: z.ZodOptional<z.ZodNumber> } & Shape, z.core.$strict> =>
  z.strictObject({ do: z.literal(name), inMs: z.number().positive().optional(), ...shape });

/**
 * What a fault rule can do to the world (`effect: act`). A `vmid` or `node` that is left out is the operation's; texts may name them and the request's name: `{vmid}`, `{node}`, `{name}`.
 * Somebody else: `foreign-*` · the cluster: `lose-quorum`, `power-off`, `fill-storage`, `forget-tasks`, `expire-tickets`, `revoke`, `grant` ·
 * nodes over SSH: `change-host-key` (installed anew), `drop-id-range` (its lines of subuid and subgid), `remove-file` (a hook that somebody took away), `first-boot` (how the start hooks of a container end) ·
 * locks: `lock-guest` (the `lock` key), `hold-file-lock` (its flock), `hold-cluster-lock` (`storage-ceph`, `file-user_cfg`) ·
 * Windows and its DHCP server: `add-filter` and `remove-filter` (a `mac` that is left out is that of the script's first entry), `take-shells` (somebody with our account holds all
 * shells that are free), `close-shells` (the service restarted) · Guacamole: `expire-tickets` (every token is dead), `roll-back` (the answer is kept, what the request did is not) ·
 * what a guest shows: `hide-config`, `hide-volume`, `drop-drive`, `same-mac`, `same-lease`, `agent` · the operation's own task: `kill-task` (of a script: it dies when half of its entries are done), `leave-volume`, `warn`.
 */
export const actSchema = z.discriminatedUnion('do', [
  act('foreign-create', {
    vmid,
    node,
    kind: z.enum(['qemu', 'lxc']).default('qemu'),
    owner: who,
    name: z.string().optional(),
    pool: z.string().optional(),
    description: z.string().optional(),
    running: z.boolean().default(true),
  }),
  act('foreign-edit', { vmid, owner: who, set: z.record(z.string(), z.string().nullable()) }),
  act('foreign-delete', { vmid, owner: who }),
  act('foreign-start', { vmid, owner: who }),
  act('foreign-stop', { vmid, owner: who }),
  act('foreign-migrate', { vmid, owner: who, node: z.string().min(1) }),
  act('lose-quorum', { forMs }),
  act('regain-quorum', {}),
  act('power-off', { node, forMs }),
  act('power-on', { node }),
  act('fill-storage', { storage: z.string(), freeGiB: z.number().min(0), node, forMs }),
  act('empty-storage', { storage: z.string(), node }),
  act('lock-guest', { vmid, lock: z.string().min(1), forMs }),
  act('unlock-guest', { vmid }),
  act('hold-file-lock', { vmid, node, forMs: z.number().positive() }),
  act('hold-cluster-lock', { lock: z.string().min(1), forMs: z.number().positive() }),
  act('leave-volume', { vmid, storage: z.string(), node, name: z.string().default('vm-{vmid}-disk-0') }),
  act('forget-tasks', { node }),
  act('change-host-key', { node }),
  act('drop-id-range', { node, start: z.number().int() }),
  act('remove-file', { node, path: z.string().startsWith('/') }),
  act('kill-task', {}),
  act('warn', { count: z.number().int().min(1).default(1) }),
  act('drop-drive', { vmid, key: z.string().min(1) }),
  act('agent', {
    vmid,
    /** Simulated milliseconds after the start; null = never. */
    afterMs: z.number().min(0).nullable().optional(),
    /** Network cards that are none of ours, each with an address, in any order. */
    extraNics: z.number().int().min(0).default(0),
  }),
  act('first-boot', {
    vmid,
    /** `exits`: the hook fails at once, and the container does not start. */
    ends: z.enum(['exits', 'fails', 'hangs', 'well']),
    why: z.string().default('apt-get: exit code 100'),
  }),
  act('revoke', { token: z.string().optional(), path: z.string(), privileges: z.array(z.string()).min(1) }),
  act('grant', { token: z.string().optional(), path: z.string(), privileges: z.array(z.string()).min(1) }),
  act('expire-tickets', {}),
  act('hide-config', { vmid, forMs: z.number().positive() }),
  act('hide-volume', { vmid, forMs: z.number().positive() }),
  act('same-mac', { vmid, as: z.number().int() }),
  act('same-lease', { vmid, as: z.number().int().optional() }),
  act('add-filter', {
    mac: z.string().optional(),
    owner: who,
    description: z.string(),
    list: z.enum(['Allow', 'Deny']).default('Allow'),
  }),
  act('remove-filter', { mac: z.string().optional(), owner: who }),
  act('take-shells', { forMs: z.number().positive() }),
  act('close-shells', {}),
  act('roll-back', {}),
]);
export type Act = z.output<typeof actSchema>;

/** What an act is about when its rule does not say. */
export interface ActTarget {
  readonly op: string;
  readonly node?: string;
  readonly vmid?: number;
  readonly upid?: string;
  /** Of the request. */
  readonly params?: Readonly<Record<string, unknown>>;
}

/** Does an act; called with every field that the target can give filled in. */
export type Actor = (act: Act, target: ActTarget) => void | Promise<void>;

const WINRM_ACTS: ReadonlySet<Act['do']> = new Set([
  'add-filter',
  'remove-filter',
  'take-shells',
  'close-shells',
  'kill-task',
]);
const GUACAMOLE_ACTS: ReadonlySet<Act['do']> = new Set(['expire-tickets', 'roll-back']);

/** Whether an act changes the world of this simulator. */
export function isActOf(sim: SimulatorName, name: Act['do']): boolean {
  if (sim === 'winrm') return WINRM_ACTS.has(name);
  if (sim === 'guacamole') return GUACAMOLE_ACTS.has(name);
  return (
    name === 'kill-task' || name === 'expire-tickets' || !(WINRM_ACTS.has(name) || GUACAMOLE_ACTS.has(name))
  );
}
