import { CmdletError, type DhcpServer, type Filter } from './dhcp-server.js';

export interface ScriptEntry {
  readonly mac: string;
  readonly description: string;
}

export interface ScriptInput {
  readonly entries: readonly ScriptEntry[];
}

export interface ScriptResult {
  readonly changed: boolean | number;
  readonly data: readonly unknown[];
}

type Script = (server: DhcpServer, input: ScriptInput) => ScriptResult;

/** What the driver's constant scripts do, by the name and version on their first line. PowerShell itself cannot run here. */
export const DHCP_SCRIPTS: Readonly<Record<string, Script>> = {
  'dhcp-filter-list v1': (server) => ({ changed: 0, data: allFilters(server) }),
  'dhcp-filter-find v1': (server, { entries }) => {
    const wanted = new Set(entries.map((entry) => entry.mac));
    return { changed: 0, data: allFilters(server).filter((filter) => wanted.has(filter.mac)) };
  },
  'dhcp-filter-allow v1': (server, { entries }) =>
    forEach(entries, (entry) => {
      const there = find(server, entry.mac);
      if (there !== undefined) return { ...there, outcome: isSame(there, entry) ? 'present' : 'foreign' };
      server.add('Allow', entry.mac, entry.description);
      return { ...find(server, entry.mac), outcome: 'added' };
    }),
  'dhcp-filter-remove v1': (server, { entries }) =>
    forEach(entries, (entry) => {
      const there = find(server, entry.mac);
      if (there === undefined) return { mac: entry.mac, outcome: 'absent' };
      if (!isSame(there, entry)) return { ...there, outcome: 'foreign' };
      server.remove(entry.mac);
      return { mac: entry.mac, outcome: 'removed' };
    }),
};

function forEach(
  entries: readonly ScriptEntry[],
  act: (entry: ScriptEntry) => { outcome: string },
): ScriptResult {
  const data = entries.map((entry) => {
    try {
      return act(entry);
    } catch (error) {
      if (!(error instanceof CmdletError)) throw error;
      return {
        mac: entry.mac,
        outcome: 'failed',
        id: error.id,
        category: error.category,
        message: error.message,
      };
    }
  });
  return { changed: data.filter(({ outcome }) => outcome === 'added' || outcome === 'removed').length, data };
}

const allFilters = (server: DhcpServer): Filter[] => [...server.filters('Allow'), ...server.filters('Deny')];
const find = (server: DhcpServer, mac: string): Filter | undefined =>
  allFilters(server).find((filter) => filter.mac === mac);
const isSame = (filter: Filter, entry: ScriptEntry): boolean =>
  filter.list === 'Allow' && filter.description === entry.description;
