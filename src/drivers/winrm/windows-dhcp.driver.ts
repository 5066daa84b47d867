import type { ServiceDefinition } from '../../core/definitions.js';
import { HatcheryError } from '../../core/errors.js';
import type { Call } from '../../ports/call.js';
import type { Clock } from '../../ports/clock.js';
import type { AllowEntry, Dhcp } from '../../ports/dhcp.js';
import type { Secret } from '../../ports/secrets.js';
import { DhcpFilters, type CallMetrics, type FilterRow } from './dhcp-filters.js';

const TIMEOUT_MS = 30_000;
const LEAST_TIMEOUT_MS = 2_000;

export interface WindowsDhcpOptions {
  readonly definition: ServiceDefinition;
  readonly password: Secret;
  readonly clock: Clock;
  readonly remoteTimeScale: number;
  readonly metrics?: CallMetrics;
}

type Finding = Awaited<ReturnType<Dhcp['check']>>[number];

/**
 * The allow list of a Windows DHCP server, over WinRM and PowerShell.
 * An entry is ours when its description is exactly the one we would write; nothing else is ever changed.
 * The look and the removal are two cmdlets of one script: a person who replaces an entry in between loses it.
 * Source: Microsoft's documentation of the module DhcpServer; never compared with a real Windows server.
 */
export class WindowsDhcpDriver implements Dhcp {
  readonly service: string;
  readonly #filters: DhcpFilters;

  constructor({ definition, password, clock, remoteTimeScale, metrics }: WindowsDhcpOptions) {
    this.service = definition.name;
    const timeoutMs = Math.max(LEAST_TIMEOUT_MS, TIMEOUT_MS * remoteTimeScale);
    this.#filters = new DhcpFilters({ definition, password, clock, timeoutMs, metrics });
  }

  async findAllowed(macs: readonly string[], call: Call): Promise<readonly (AllowEntry | undefined)[]> {
    const rows = byMac(
      await this.#filters.find(
        macs.map((mac) => ({ mac, description: '' })),
        call,
      ),
    );
    return macs.map((mac) => {
      const row = rows.get(mac);
      return row?.list === 'Allow' ? { mac, description: row.description ?? '' } : undefined;
    });
  }

  async allow(entries: readonly AllowEntry[], call: Call): Promise<readonly (HatcheryError | undefined)[]> {
    const rows = byMac(await this.#filters.allow(entries, call));
    return entries.map((entry) => this.#whyNotAllowed(entry, rows.get(entry.mac)));
  }

  async disallow(
    entries: readonly AllowEntry[],
    call: Call,
  ): Promise<readonly ({ existed: boolean } | HatcheryError)[]> {
    const rows = byMac(await this.#filters.remove(entries, call));
    return entries.map((entry) => this.#removed(entry, rows.get(entry.mac)));
  }

  async check(call: Call): Promise<readonly Finding[]> {
    try {
      const { user, computer, signInMethod, allowEnabled } = await this.#filters.status(call);
      const enforced: Finding = allowEnabled
        ? { ok: true, subject: 'allow filter', detail: 'the server answers only listed MAC addresses' }
        : {
            ok: false,
            subject: 'allow filter',
            detail:
              'the allow filter is off: the server answers every MAC address, so allowing one changes nothing',
            remedy:
              'list every client that must keep its address, then: Set-DhcpServerv4FilterList -Allow $true',
          };
      return [{ ok: true, subject: 'sign-in', detail: `${user} on ${computer} (${signInMethod})` }, enforced];
    } catch (error) {
      if (!(error instanceof HatcheryError)) throw error;
      const remedy = error.hint === undefined ? {} : { remedy: error.hint };
      return [{ ok: false, subject: 'sign-in', detail: error.message, ...remedy }];
    }
  }

  #whyNotAllowed(entry: AllowEntry, row: FilterRow | undefined): HatcheryError | undefined {
    if (row?.outcome === 'foreign')
      return new HatcheryError(
        'remote-refused',
        `Unable to allow ${entry.mac} on ${this.service}: ${whose(row)}`,
        {
          retry: 'after-fix',
          hint: `if that entry is no longer wanted, remove it on the server: Remove-DhcpServerv4Filter -MacAddress ${entry.mac.toUpperCase().replaceAll(':', '-')}`,
        },
      );
    const isThere = row?.list === 'Allow' && row.description === entry.description;
    return isThere ? undefined : this.#notDone('allow', entry, row);
  }

  #removed(entry: AllowEntry, row: FilterRow | undefined): { existed: boolean } | HatcheryError {
    if (row?.outcome === 'removed') return { existed: true };
    if (row?.outcome === 'absent') return { existed: false };
    if (row?.outcome === 'foreign')
      return new HatcheryError(
        'foreign-guest',
        `Unable to remove ${entry.mac} from ${this.service}: ${whose(row)}`,
        {
          retry: 'after-fix',
          hint: 'it is not ours, so it stays; look at it on the server with Get-DhcpServerv4Filter',
        },
      );
    return this.#notDone('remove', entry, row);
  }

  #notDone(verb: string, entry: AllowEntry, row: FilterRow | undefined): HatcheryError {
    const isDenied = row?.category === 'PermissionDenied';
    const why = row?.message ?? 'the server said yes, but reading back shows another state';
    return new HatcheryError(
      isDenied ? 'permission-missing' : 'remote-refused',
      `Unable to ${verb} ${entry.mac} on ${this.service}: ${why}`,
      {
        retry: isDenied ? 'after-fix' : 'later',
        ...(isDenied && { hint: 'make the account a member of "DHCP Administrators" on the server' }),
      },
    );
  }
}

const byMac = (rows: readonly FilterRow[]): ReadonlyMap<string, FilterRow> =>
  new Map(rows.map((row) => [row.mac, row]));

function whose({ list, description }: FilterRow): string {
  return `it stands in the ${(list ?? '').toLowerCase()} list with the description ${JSON.stringify(description ?? '')}`;
}
