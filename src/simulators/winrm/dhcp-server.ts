import type { WorldDhcp } from '../world.js';

type FilterList = 'Allow' | 'Deny';

export interface Filter {
  /** As Windows writes it: `AA-BB-CC-DD-EE-FF`. */
  readonly mac: string;
  readonly list: FilterList;
  readonly description: string;
}

/** A terminating error of a cmdlet. */
export class CmdletError extends Error {
  override readonly name = 'CmdletError';
  constructor(
    readonly id: string,
    readonly category: string,
    message: string,
  ) {
    super(message);
  }
}

const MAC = /^[0-9A-F]{2}(-[0-9A-F]{2}){5}$/;
const ADDRESS_EXISTS = 20094;
const ADDRESS_DOES_NOT_EXIST = 20095;

interface FilterChange {
  readonly op: 'dhcp.allow' | 'dhcp.remove';
  readonly filter: Filter;
  readonly effect: boolean;
}

/** The link-layer filters of the module DhcpServer as their cmdlets see them; `changed` hears every call that writes. */
export class DhcpServer {
  constructor(
    private readonly dhcp: WorldDhcp,
    private readonly computer: string,
    private readonly changed: (change: FilterChange) => void,
  ) {}

  /** `Get-DhcpServerv4Filter -List`. */
  filters(list: FilterList): Filter[] {
    return [...this.#listed(list)].map(([mac, { description }]) => ({
      mac: windowsMac(mac),
      list,
      description,
    }));
  }

  /** `Get-DhcpServerv4FilterList`. */
  get state(): { allowEnabled: boolean; denyEnabled: boolean } {
    return { allowEnabled: this.dhcp.allowEnabled, denyEnabled: this.dhcp.denyEnabled };
  }

  /** `Add-DhcpServerv4Filter` without `-Force`: an address present in any list is an error. */
  add(list: FilterList, mac: string, description: string): void {
    const key = this.#key('Add', mac);
    const filter = { mac, list, description };
    if (this.dhcp.allow.has(key) || this.dhcp.deny.has(key)) {
      this.changed({ op: 'dhcp.allow', filter, effect: false });
      throw new CmdletError(
        `WIN32 ${ADDRESS_EXISTS},Add-DhcpServerv4Filter`,
        'ResourceExists',
        `Failed to add MAC address ${mac} to the ${list} list on DHCP server ${this.computer}. The address or address pattern already exists in one of the lists.`,
      );
    }
    this.#listed(list).set(key, { description });
    this.changed({ op: 'dhcp.allow', filter, effect: true });
  }

  /** `Remove-DhcpServerv4Filter`: from whichever list holds it; an absent one is an error. */
  remove(mac: string): void {
    const key = this.#key('Remove', mac);
    const list: FilterList | undefined = this.dhcp.allow.has(key)
      ? 'Allow'
      : this.dhcp.deny.has(key)
        ? 'Deny'
        : undefined;
    if (list === undefined) {
      this.changed({ op: 'dhcp.remove', filter: { mac, list: 'Allow', description: '' }, effect: false });
      throw new CmdletError(
        `WIN32 ${ADDRESS_DOES_NOT_EXIST},Remove-DhcpServerv4Filter`,
        'ObjectNotFound',
        `Failed to remove MAC address ${mac} from the filter list on DHCP server ${this.computer}. The address or address pattern is not contained in any of the lists.`,
      );
    }
    const description = this.#listed(list).get(key)?.description ?? '';
    this.#listed(list).delete(key);
    this.changed({ op: 'dhcp.remove', filter: { mac, list, description }, effect: true });
  }

  #listed(list: FilterList): Map<string, { description: string }> {
    return list === 'Allow' ? this.dhcp.allow : this.dhcp.deny;
  }

  #key(verb: 'Add' | 'Remove', mac: string): string {
    if (MAC.test(mac)) return worldMac(mac);
    throw new CmdletError(
      `ParameterArgumentValidationError,${verb}-DhcpServerv4Filter`,
      'InvalidData',
      `Cannot validate argument on parameter 'MacAddress'. ${mac} is not a valid MAC address or pattern.`,
    );
  }
}

/** `AA-BB-...` -> `aa:bb:...`, the form of the world and of the journal. */
export const worldMac = (mac: string): string => mac.toLowerCase().replaceAll('-', ':');
export const windowsMac = (mac: string): string => mac.toUpperCase().replaceAll(':', '-');
