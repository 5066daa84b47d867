import { isDeployment } from './actors.js';
import type { NumberedLine } from './read-lines.js';
import type { Counts, Finding } from './verdict.js';

interface Made {
  readonly creator: string | undefined;
}

export interface LedgerConnection extends Made {
  readonly id: string;
  name: string;
  parent: string;
  hostname: string | undefined;
}

interface LedgerPermission extends Made {
  readonly login: string;
  readonly kind: string;
  readonly id: string;
  readonly permission: string;
}

type NamedThing = Made & { readonly id: string; name: string };

/** What the DHCP server and the desktop gateway hold, as far as the journal saw it made; the rest is somebody else's. */
export class ServiceLedger {
  readonly filters = new Map<string, Made & { readonly mac: string }>();
  readonly connections = new Map<string, LedgerConnection>();
  readonly groups = new Map<string, NamedThing>();
  readonly users = new Map<string, NamedThing>();
  readonly permissions = new Map<string, LedgerPermission>();
  readonly #scripts = new Map<string, string>();

  constructor(
    private readonly findings: Finding[],
    private readonly counts: Counts,
  ) {}

  apply(line: NumberedLine): void {
    if (line.op === 'winrm.command') this.#checkScript(line);
    if (line.effect !== true || line.resource === undefined) return;
    if (line.sim === 'winrm') this.#applyDhcp(line, line.resource);
    if (line.sim === 'guacamole') this.#applyGuacamole(line, line.resource);
  }

  has(login: string, kind: string, id: string): boolean {
    return this.permissions.has(permissionKey({ login, kind, id, permission: 'READ' }));
  }

  #applyDhcp(line: NumberedLine, mac: string): void {
    if (line.op === 'dhcp.allow') {
      // An entry in the deny list gives nobody an address.
      if (line.params?.['list'] === 'Deny') return;
      this.filters.set(mac, {
        creator: line.actor,
        mac,
      });
      if (isDeployment(line.actor)) this.counts.filtersAdded += 1;
    } else if (line.op === 'dhcp.remove') {
      this.#checkOwn(line, `the filter of ${mac}`, this.filters.get(mac));
      this.filters.delete(mac);
      if (isDeployment(line.actor)) this.counts.filtersRemoved += 1;
    }
  }

  #applyGuacamole(line: NumberedLine, id: string): void {
    const [, kind = '', verb = ''] = (line.op ?? '').split('.');
    if (kind === 'permission') return this.#applyPermission(line, id, verb);
    const things: Map<string, NamedThing> | undefined =
      kind === 'connection'
        ? this.connections
        : kind === 'group'
          ? this.groups
          : kind === 'user'
            ? this.users
            : undefined;
    if (things === undefined || !['create', 'update', 'delete'].includes(verb)) return;
    const { name, parent, hostname } = (line.params ?? {}) as Record<string, string | undefined>;
    const facts = { name: name ?? id, parent: parent ?? 'ROOT', hostname };
    if (verb === 'create') {
      things.set(id, { creator: line.actor, id, ...facts });
      if (kind === 'connection' && isDeployment(line.actor)) this.counts.connectionsCreated += 1;
      return;
    }
    const thing = things.get(id);
    this.#checkOwn(line, `${kind} ${thing?.name ?? id}`, thing);
    if (verb === 'update') Object.assign(thing ?? {}, facts);
    else {
      things.delete(id);
      this.#forgetPermissions(kind === 'group' ? 'connectionGroup' : kind, id);
    }
  }

  #applyPermission(line: NumberedLine, login: string, verb: string): void {
    const { kind = '', id = '', permission = '' } = (line.params ?? {}) as Record<string, string | undefined>;
    const key = permissionKey({ login, kind, id, permission });
    const what = `the permission ${permission} of ${login} on ${kind} ${id}`;
    if (verb === 'add') {
      const object =
        kind === 'connection'
          ? this.connections.get(id)
          : kind === 'connectionGroup'
            ? this.groups.get(id)
            : undefined;
      this.#checkOwn(line, what, object);
      this.permissions.set(key, { creator: line.actor, login, kind, id, permission });
      if (isDeployment(line.actor)) this.counts.permissionsAdded += 1;
    } else if (verb === 'remove') {
      this.#checkOwn(line, what, this.permissions.get(key));
      this.permissions.delete(key);
    }
  }

  /** The same script must have the same text whenever it runs: data in the text would be code. */
  #checkScript(line: NumberedLine): void {
    const { script, digest } = (line.params ?? {}) as Record<string, string | undefined>;
    if (script === undefined || digest === undefined || !isDeployment(line.actor)) return;
    const known = this.#scripts.get(script);
    this.#scripts.set(script, known ?? digest);
    if (known !== undefined && known !== digest)
      this.findings.push({
        rule: 'script-changed',
        line: line.line,
        detail: `the script "${script}" came with another text than before`,
      });
  }

  #checkOwn(line: NumberedLine, what: string, made: Made | undefined): void {
    if (!isDeployment(line.actor) || made?.creator === line.actor) return;
    const owner = made?.creator === undefined ? 'was there before' : `${made.creator} made`;
    this.findings.push({
      rule: 'foreign-write',
      line: line.line,
      detail: `${line.actor} did ${line.op} on ${what}, which ${owner}`,
    });
  }

  #forgetPermissions(kind: string, id: string): void {
    for (const [key, one] of this.permissions)
      if ((one.kind === kind && one.id === id) || (kind === 'user' && one.login === id))
        this.permissions.delete(key);
  }
}

function permissionKey({ login, kind, id, permission }: Omit<LedgerPermission, 'creator'>): string {
  return JSON.stringify([login, kind, id, permission]);
}
