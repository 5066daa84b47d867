import {
  closeSync,
  existsSync,
  fstatSync,
  linkSync,
  openSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { HatcheryError } from '../core/errors.js';

/**
 * The journal: what really happened on the simulated side, one JSON object per line, in the order of (ns, writer, seq).
 * `ns` is CLOCK_MONOTONIC in nanoseconds as a decimal string (it outgrows a double); fields without a value are left out; secrets are `***`.
 * The product never reads it. Several processes may append to one file (O_APPEND, one write per line).
 *
 * Events
 * - `world`      exactly once, first line: params `{ timeScale, seed, cluster, nodes, pools, guests: [{vmid, kind, node, owner, incarnation, pool, template}], range }`.
 *                Every guest of this line is foreign: nobody whose journal this is may write to it. A template may only be read and cloned.
 * - `request`    one per request, any verb. `effect` = it changed something by itself (not through a task); `answered` = the answer was handed to an open socket;
 *                `params.via` = the node that got it, when it is not the one that executes it; `status` = the HTTP status of that answer (also when it was not delivered); `upid` = the task that it started; `params.error` = why it was refused;
 *                `params.source` of a clone = the guest that is cloned (its `vmid` is the NEW one).
 * - `task-start` a task began: `op` of the request, `upid`, `actor`, `node`, `vmid` (for a clone the NEW id; the UPID carries the source), `params.type`.
 * - `task-end`   the same with `effect` and `params.verdict` (`OK`, `WARNINGS: n` or the error text).
 * - `hold`       a lock was given back (cluster locks always, file locks only when somebody had to wait): `resource` = its name (`storage-ceph`, `file-user_cfg`, `pve1:lock-105.conf`), `waitMs`, `holdMs` in simulated
 *                milliseconds; never obtained: `effect: false` and no `holdMs`.
 * - `fault`      a rule fired: `fault` = its id, `params { when, effect }`; on a transport (`sim` redis, postgres, http) it is the only line: what passes undisturbed is not told.
 * - `foreign`    somebody who is not the product did it (op `foreign.create`, `foreign.edit`, `foreign.delete`, `foreign.start`, `foreign.stop`, `foreign.migrate`), `actor` = who;
 *                a guest phoned home (op `guest.phone-home`, actor `foreign:guest`; effect false, `status` of the answer, `answered: false` = there was none);
 *                a filter or an object of Guacamole changed by hand (the ops below);
 *                or the world itself changed (op `condition.<act>` as in acts.ts, e.g. `condition.power-off` with `node`; effect false and `params.error` = it could not).
 *
 * `actor` is the token id (`user@realm!name`), the user of a ticket (`root@pam`), the account (`DOMAIN\\user`, Guacamole login), `foreign:<who>` or `simulator`;
 * `foreign-<who>@pve!<name>` is somebody who is not the product and comes over the API (`hatchery simulate foreign`).
 * `incarnation` is unique per creation of a guest: a VMID that is used again has another one. A template's clones name the NEW guest.
 *
 * Proxmox (`sim: "proxmox"`, `cluster`)
 * - guest created:    task-end of `qemu.clone`, effect true, vmid, node (where the config ended), incarnation, params `{ source, sourceIncarnation, mode, pool, mark, mac, name, verdict }`
 *                     (`mark` = last line of the description when it starts with `[hatchery `). `effect: false` = nothing is left of the attempt. A failed clone that leaves a config
 *                     behind (pool join failed after the move) has effect true and the error as verdict; foreign: `foreign.create` with effect true.
 *                     task-end of `qemu.create`: the same without source and mode; its failure at the pool leaves volumes (`left`) and no config.
 *                     task-end of `lxc.create`: as of `qemu.create`, `name` = its host name; its failure at the pool leaves the container (effect true).
 * - containers:       every line about a guest says `lxc.` instead of `qemu.` where both kinds can do it; `address` = what DHCP gave it.
 * - config write:     request `qemu.config.put` (or task-end of `qemu.config.post`), effect true only if the text changed, digestBefore, digestAfter, incarnation,
 *                     params = keys written plus `mac` (of net0 after the write), `mark` (after the write), `name`.
 * - over SSH:         request `ssh.<what was asked>` of `hatchery-node`; its actor is the deployment whose key it is, `status` its exit code. `ssh.config.raw-lines` is a config write (params `{ lines, mac, mark, name }`);
 *                     `ssh.file.put` and `ssh.file.remove`: `resource` = `<node>:<path>`, effect true = the file changed or went, params `{ sha256, mode }`; `ssh.command` = something else, which is not found. Requests of one conversation: all but the first have `sameConversation` in their params.
 * - disk grown:       task-end `qemu.resize` params `{ disk, sizeGiB }`.
 * - snapshots:        task-end `qemu.snapshot`, `qemu.snapshot.delete` params `{ snapshot }`; `qemu.rollback` besides `{ mac, mark, name }` as they are afterwards.
 * - other changes:    task-end `qemu.template`, `qemu.move-disk` params `{ disk, freed | receiver }`, `qemu.migrate` (node = where it is now, params `{ target }`), `qemu.reset`;
 *                     request `qemu.unlink` (as a config write), `qemu.cloudinit.put`, `qemu.snapshot.config.put`; `qemu.agent.exec` and `qemu.agent.file-write`
 *                     did something inside the guest (effect false).
 * - started:          task-end `qemu.start`, effect true, params `{ mac, address, allowed }` (`allowed` = the MAC was on the DHCP allow list at this moment, `address` = what the guest will report).
 * - stopped:          task-end `qemu.stop` or `qemu.shutdown`, effect true only if it was running; `qemu.suspend` with params `{ state: "disk" }`. `qemu.reboot` and `qemu.resume` from disk are starts.
 *                     request `qemu.agent.shutdown`, `qemu.agent.suspend-disk` (or `qemu.agent` with that `command`), effect true = it went down by itself.
 * - destroyed:        task-end `qemu.destroy`, effect true, vmid, incarnation. Foreign: `foreign.delete`.
 * - volume deleted:   task-end `storage.volume.delete` (without a guest's config), effect true = it was there, params `{ freed }` (whole volume ids).
 * - volume:           task-end params `freed` / `left` = volumes removed / orphaned, as `storage:own-name` (a linked clone without its base: `ceph:vm-105-disk-0`).
 * - pool membership:  request `pools.put`, effect true, params `{ pool, added, removed }`; `pools.create`, `pools.delete` params `{ pool }`.
 * - sign-in:          request `access.ticket` (actor `anonymous`), params `{ user }` when it was let in.
 * - access:           request `access.users.*`, `access.tokens.*`, `access.roles.*`, `access.acl.put`, `access.password`, effect true = it was written.
 * - HA:               request `ha.resources.*`, `ha.rules.*`, `ha.groups.*`, effect true = the configuration changed; a managed guest's `qemu.start`, `qemu.stop` and `qemu.migrate`
 *                     requests end as `hastart` / `hastop` / `hamigrate` tasks with effect false, and so do `ha.resources.migrate` and `ha.resources.relocate` without a task: the real
 *                     task follows with actor `root@pam`; a guest that HA moved away from a dead node is `foreign.migrate` of
 *                     `foreign:ha-manager`.
 * - reads:            `version`, `cluster.status`, `cluster.resources`, `cluster.nextid`, `nodes.list`, `node.status`, `tasks.list`, `task.status`, `task.log`, `storage.list`,
 *                     `storage.content`, `qemu.list`, `qemu.config.get`, `qemu.status`, `qemu.agent.interfaces`, `ssh.describe`, `ssh.config.read`, `ssh.file.read`, `ssh.reports.read`, `ssh.id-ranges`, `ssh.path.resolve`, `lxc.list`, `lxc.interfaces`, `access.permissions`, `pools.get`, ...; `unrouted` = no such path.
 *
 * Windows DHCP over WinRM (`sim: "winrm"`), beside one `request` line per SOAP message
 * - `dhcp.allow`  request, effect true = the filter was added; `resource` = MAC, lower case with colons; params `{ description, list: "Allow" }`.
 * - `dhcp.remove` request, effect true = a filter went away; `resource` = MAC; params `{ description, list }` of the filter that went.
 * - `winrm.command` request, `resource` = shell id, params `{ script, digest }` (name and version, start of the text's SHA-256); effect false (its cmdlets are the lines above).
 * - `winrm.script`  request, one per script that ran to its end, effect true = at least one cmdlet changed something; params `{ script, digest, entries, exitCode }`.
 *
 * Guacamole (`sim: "guacamole"`), `resource` = identifier of the object (connection and group: the numeric id as text; user: login)
 * - `guacamole.connection.create|update|delete` params `{ name, parent, protocol, hostname, port }`; `cascade: true` on the delete of what went with its group.
 * - `guacamole.group.create|update|delete`      (connection group) params `{ name, parent }`.
 * - `guacamole.user.create|update|delete`       params `{ mark }` (the attribute that proves whose account it is, when there is one).
 * - `guacamole.permission.patch`                the request itself; what it changed are the lines below.
 * - `guacamole.permission.add|remove`           `resource` = login, params `{ kind: "connection" | "connectionGroup" | ..., id, permission: "READ" }`; one line per permission that changed.
 * effect true = it changed; refused or already so: effect false.
 */
const JOURNAL_EVENTS = ['world', 'request', 'task-start', 'task-end', 'hold', 'fault', 'foreign'] as const;

export const journalLineSchema = z.strictObject({
  v: z.literal(1),
  ns: z.string().regex(/^(0|[1-9][0-9]*)$/),
  writer: z.string().min(1),
  seq: z.number().int().min(1),
  sim: z.string().min(1),
  event: z.enum(JOURNAL_EVENTS),
  actor: z.string().optional(),
  op: z.string().optional(),
  cluster: z.string().optional(),
  node: z.string().optional(),
  vmid: z.number().int().optional(),
  incarnation: z.string().optional(),
  effect: z.boolean().optional(),
  answered: z.boolean().optional(),
  status: z.number().int().optional(),
  upid: z.string().optional(),
  fault: z.string().optional(),
  digestBefore: z.string().optional(),
  digestAfter: z.string().optional(),
  resource: z.string().optional(),
  waitMs: z.number().optional(),
  holdMs: z.number().optional(),
  params: z.record(z.string(), z.unknown()).optional(),
});
export type JournalLine = z.infer<typeof journalLineSchema>;

/** What a simulator says; `ns` (from `journal.now()`) when the moment of the effect is earlier than the moment of the record. */
export type JournalEntry = Omit<JournalLine, 'v' | 'ns' | 'writer' | 'seq'> & { readonly ns?: string };

export interface Journal {
  readonly file: string;
  now(): string;
  record(entry: JournalEntry): void;
  /** Every line so far, of all writers, in order; for tests. */
  read(): JournalLine[];
  close(): void;
}

const SECRET_KEY = /passw|secret|ticket|cookie|authorization|^token$|tokenvalue/i;

/** Replaces the values of secret-looking keys, at any depth, and serial numbers of guests, which may be tokens. */
export function maskSecrets(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(maskSecrets);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      if (key === 'smbios1' && typeof inner === 'string')
        return [key, inner.replace(/(^|,)serial=[^,]*/, '$1serial=***')];
      return [key, SECRET_KEY.test(key) ? '***' : maskSecrets(inner)];
    }),
  );
}

/** Lines of a journal file, in order; a torn last line of a writer that was killed is left out. */
export function parseJournal(text: string): JournalLine[] {
  const whole = text.slice(0, text.lastIndexOf('\n') + 1);
  const lines = whole
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => journalLineSchema.parse(JSON.parse(line)));
  return lines.sort(inTime);
}

/** Decimal numbers without leading zeros: of two the longer one is greater, and of one length the text tells. */
function inTime(a: JournalLine, b: JournalLine): number {
  if (a.ns !== b.ns) return a.ns.length - b.ns.length || (a.ns < b.ns ? -1 : 1);
  return a.writer === b.writer ? a.seq - b.seq : a.writer < b.writer ? -1 : 1;
}

/** Reads on where it stopped: a journal only grows, and whoever waits for something in it reads it again and again. */
class Reader {
  readonly #lines: JournalLine[] = [];
  #bytes = 0;

  constructor(private readonly file: string) {}

  read(): JournalLine[] {
    const added = this.#added();
    if (added.length > 0) {
      this.#bytes += added.length;
      for (const line of parseJournal(added.toString())) this.#lines.push(line);
      this.#lines.sort(inTime);
    }
    return [...this.#lines];
  }

  /** Whole lines since the last time. */
  #added(): Buffer {
    const fd = openSync(this.file, 'r');
    try {
      const rest = Buffer.alloc(fstatSync(fd).size - this.#bytes);
      const text = rest.subarray(0, readSync(fd, rest, 0, rest.length, this.#bytes));
      return text.subarray(0, text.lastIndexOf('\n') + 1);
    } finally {
      closeSync(fd);
    }
  }
}

/**
 * Opens a journal for appending. `world` becomes the first line if the file is new or empty (made whole by a hard link, so that
 * no second process can write before it); a file that exists already has its world.
 */
export function openJournal(file: string, world: Readonly<Record<string, unknown>>): Journal {
  let writer = new Writer();
  const first = writer.line({
    sim: 'world',
    event: 'world',
    actor: 'simulator',
    params: { ...world },
  });
  const draft = `${file}.${process.pid}-${randomBytes(3).toString('hex')}`;
  writeFileSync(draft, first, { mode: 0o600 });
  try {
    linkSync(draft, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    writer = new Writer();
  } finally {
    rmSync(draft, { force: true });
  }
  const fd = openSync(file, 'a');
  if (fstatSync(fd).size === 0) writeSync(fd, first);
  return journalOn(file, fd, writer);
}

/** Opens the journal of a simulated world for somebody who has no world of his own to tell. */
export function joinJournal(file: string): Journal {
  if (!existsSync(file))
    throw new HatcheryError('settings-invalid', `Unable to join the journal ${file}: it is not there`, {
      hint: 'Start the simulators first: their journal begins with the world that they simulate.',
    });
  return journalOn(file, openSync(file, 'a'), new Writer());
}

/** Numbers the lines of one who writes. */
class Writer {
  readonly #name = `${process.pid}-${randomBytes(3).toString('hex')}`;
  #seq = 0;

  static now(): string {
    return process.hrtime.bigint().toString();
  }

  line({ ns = Writer.now(), params, ...rest }: JournalEntry): string {
    this.#seq += 1;
    const own = { v: 1, ns, writer: this.#name, seq: this.#seq };
    return `${JSON.stringify({ ...own, ...rest, params: params && maskSecrets(params) })}\n`;
  }
}

function journalOn(file: string, fd: number, writer: Writer): Journal {
  let isOpen = true;
  const reader = new Reader(file);
  return {
    file,
    now: () => Writer.now(),
    record(entry) {
      if (isOpen) writeSync(fd, writer.line(entry));
    },
    read: () => reader.read(),
    close() {
      if (isOpen) closeSync(fd);
      isOpen = false;
    },
  };
}
