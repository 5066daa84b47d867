import { CmdletError, type DhcpServer, type Filter } from './dhcp-server.js';

interface ScriptEntry {
  readonly mac: string;
  readonly description: string;
}

interface ScriptInput {
  readonly entries: readonly ScriptEntry[];
}

interface ScriptResult {
  readonly changed: boolean | number;
  readonly data: readonly unknown[];
}

/** What became of one entry. */
interface EntryRow {
  readonly outcome: string;
  readonly [more: string]: unknown;
}

interface Caller {
  /** `DOMAIN\\user`. */
  readonly user: string;
  readonly computer: string;
}

/** `step`: the time that one entry takes; a script that is ended in the middle has done the entries before. */
type Script = (
  server: DhcpServer,
  input: ScriptInput,
  caller: Caller,
  step: () => Promise<void>,
) => Promise<ScriptResult>;

/** What the driver's constant scripts do, by the name and version on their first line. PowerShell itself cannot run here. */
export const DHCP_SCRIPTS: Readonly<Record<string, Script>> = {
  'dhcp-filter-check v1': async (server, _, caller) => ({
    changed: 0,
    data: [{ ...server.state, ...caller }],
  }),
  'dhcp-filter-find v1': async (server, { entries }, _caller, step) => {
    for (const _entry of entries) await step();
    const rows = entries.map(({ mac }) => find(server, mac)).filter((filter) => filter !== undefined);
    return { changed: 0, data: rows.map((filter) => ({ ...filter, outcome: 'present' })) };
  },
  'dhcp-filter-allow v1': (server, { entries }, _caller, step) =>
    forEach(entries, step, (entry) => {
      const there = find(server, entry.mac);
      if (there !== undefined) return { ...there, outcome: isSame(there, entry) ? 'present' : 'foreign' };
      server.add('Allow', entry.mac, entry.description);
      return { ...find(server, entry.mac), outcome: 'added' };
    }),
  'dhcp-filter-remove v1': (server, { entries }, _caller, step) =>
    forEach(entries, step, (entry) => {
      const there = find(server, entry.mac);
      if (there === undefined) return { mac: entry.mac, outcome: 'absent' };
      if (!isSame(there, entry)) return { ...there, outcome: 'foreign' };
      server.remove(entry.mac);
      return { mac: entry.mac, outcome: 'removed' };
    }),
};

async function forEach(
  entries: readonly ScriptEntry[],
  step: () => Promise<void>,
  act: (entry: ScriptEntry) => EntryRow,
): Promise<ScriptResult> {
  const data: EntryRow[] = [];
  for (const entry of entries) {
    await step();
    data.push(outcomeOf(entry, act));
  }
  return { changed: data.filter(({ outcome }) => outcome === 'added' || outcome === 'removed').length, data };
}

function outcomeOf(entry: ScriptEntry, act: (entry: ScriptEntry) => EntryRow): EntryRow {
  try {
    return act(entry);
  } catch (error) {
    if (!(error instanceof CmdletError)) throw error;
    const { id, category, message } = error;
    return { mac: entry.mac, outcome: 'failed', id, category, message };
  }
}

const allFilters = (server: DhcpServer): Filter[] => [...server.filters('Allow'), ...server.filters('Deny')];
const find = (server: DhcpServer, mac: string): Filter | undefined =>
  allFilters(server).find((filter) => filter.mac === mac);
const isSame = (filter: Filter, entry: ScriptEntry): boolean =>
  filter.list === 'Allow' && filter.description === entry.description;
