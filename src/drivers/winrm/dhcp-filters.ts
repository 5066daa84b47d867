import { z } from 'zod';
import { HatcheryError } from '../../core/errors.js';
import type { ServiceDefinition } from '../../core/definitions.js';
import type { AllowEntry } from '../../ports/dhcp.js';
import type { Call } from '../../ports/call.js';
import type { Clock } from '../../ports/clock.js';
import type { Secret } from '../../ports/secrets.js';
import { WinrmConnection } from './connection.js';
import { NoScriptAnswer, runScript, type PowerShellScript } from './powershell.js';
import { ALLOW, CHECK, FIND, REMOVE } from './scripts/dhcp-filter.js';
import { ShellLimit } from './shell-limit.js';
import { SignInGuard } from './sign-in-guard.js';
import { WinrmShell } from './shell.js';
import { winrmError } from './winrm-error.js';

export interface CallMetrics {
  /** One remote operation: its kind, how long it took, `ok` or an error code. */
  observe(op: string, seconds: number, outcome: string): void;
}

export interface DhcpFiltersOptions {
  readonly definition: ServiceDefinition;
  readonly password: Secret;
  readonly clock: Clock;
  readonly timeoutMs: number;
  readonly metrics?: CallMetrics | undefined;
}

const filterRow = z.object({
  mac: z.string(),
  list: z.string().nullish(),
  description: z.string().nullish(),
  outcome: z.string().optional(),
  category: z.string().nullish(),
  message: z.string().nullish(),
});
const statusRow = z.object({
  allowEnabled: z.boolean(),
  denyEnabled: z.boolean(),
  user: z.string(),
  computer: z.string(),
});

/** One link-layer filter as the server lists it, or what became of an entry. `mac` is lower case with colons. */
export type FilterRow = z.output<typeof filterRow>;
export type FilterStatus = z.output<typeof statusRow> & { signInMethod: 'ntlm' | 'basic' };

/**
 * The link-layer filters of a Windows DHCP server: every method takes many entries and costs one shell and one script, which reads the lists again after it wrote.
 * Errors: `winrm-error.ts`.
 */
export class DhcpFilters {
  readonly #options: DhcpFiltersOptions;
  readonly #limit: ShellLimit;
  readonly #signIn: SignInGuard;
  readonly #endpoint: URL;

  constructor(options: DhcpFiltersOptions) {
    const { name, endpoint, maxShells } = options.definition;
    this.#options = options;
    this.#limit = new ShellLimit(maxShells);
    this.#signIn = new SignInGuard(options.clock);
    this.#endpoint = new URL(endpoint);
    if (this.#endpoint.protocol !== 'https:')
      throw new HatcheryError(
        'settings-invalid',
        `Unable to use the service ${name}: WinRM without TLS would show what it sends to everybody`,
        {
          hint: 'write the endpoint as https://host:5986/wsman and give the server an HTTPS listener',
        },
      );
    if (this.#endpoint.pathname === '/') this.#endpoint.pathname = '/wsman';
  }

  async find(entries: readonly AllowEntry[], call: Call): Promise<readonly FilterRow[]> {
    return rows(await this.#run(FIND, filterRow, entries, { signal: call.signal }));
  }

  async allow(entries: readonly AllowEntry[], call: Call): Promise<readonly FilterRow[]> {
    return rows(await this.#run(ALLOW, filterRow, entries, call));
  }

  async remove(entries: readonly AllowEntry[], call: Call): Promise<readonly FilterRow[]> {
    return rows(await this.#run(REMOVE, filterRow, entries, call));
  }

  async status(call: Call): Promise<FilterStatus> {
    const { data, signInMethod } = await this.#run(CHECK, statusRow, [], { signal: call.signal });
    const [status] = data;
    if (status === undefined)
      throw new HatcheryError(
        'remote-refused',
        `Unable to check ${this.#endpoint.host}: the script gave no row`,
        {
          retry: 'later',
        },
      );
    return { ...status, signInMethod };
  }

  async #run<T>(
    script: PowerShellScript,
    row: z.ZodType<T>,
    entries: readonly AllowEntry[],
    call: { signal: AbortSignal; beforeSend?: () => void },
  ) {
    const { clock, metrics } = this.#options;
    const parameters = {
      entries: entries.map(({ mac, description }) => ({ mac: windowsMac(mac), description })),
    };
    const progress = { isWrite: call.beforeSend !== undefined, wasSent: false };
    const beforeSend =
      call.beforeSend &&
      (() => {
        call.beforeSend?.();
        progress.wasSent = true;
      });
    const startedAt = clock.monotonicMs();
    let outcome = 'aborted';
    try {
      const result = await this.#limit.with(call.signal, () =>
        this.#withShell(call.signal, async (shell, connection) => ({
          data: inForm(row, await runScript(shell, script, parameters, { signal: call.signal, beforeSend })),
          signInMethod: connection.signInMethod,
        })),
      );
      outcome = 'ok';
      return result;
    } catch (error) {
      const translated = winrmError(error, {
        what: `run ${script.name} on ${this.#endpoint.host}`,
        ...progress,
      });
      if (translated instanceof HatcheryError) outcome = translated.code;
      throw translated;
    } finally {
      metrics?.observe(script.name.split(' ')[0]!, (clock.monotonicMs() - startedAt) / 1000, outcome);
    }
  }

  async #withShell<T>(
    signal: AbortSignal,
    work: (shell: WinrmShell, connection: WinrmConnection) => Promise<T>,
  ): Promise<T> {
    const { definition, password, clock, timeoutMs } = this.#options;
    const { trust, username } = definition;
    const connection = new WinrmConnection({
      endpoint: this.#endpoint,
      trust,
      username,
      password,
      timeoutMs,
      clock,
    });
    try {
      // The server must give up before we do: its time-out is an answer, ours is not.
      const target = { endpoint: this.#endpoint.href, operationTimeoutMs: Math.round((timeoutMs * 2) / 3) };
      const shell = await this.#signIn.with(signal, () => WinrmShell.open(connection, target, clock, signal));
      try {
        return await work(shell, connection);
      } finally {
        await shell.close();
      }
    } finally {
      connection.close();
    }
  }
}

function inForm<T>(row: z.ZodType<T>, data: readonly unknown[]): readonly T[] {
  const parsed = z.array(row).safeParse(data);
  if (parsed.success) return parsed.data;
  throw new NoScriptAnswer('the script answered in another form than it should');
}

function rows({ data }: { data: readonly FilterRow[] }): readonly FilterRow[] {
  return data.map((row) => ({ ...row, mac: portMac(row.mac) }));
}

const windowsMac = (mac: string): string => mac.toUpperCase().replaceAll(':', '-');
const portMac = (mac: string): string => mac.toLowerCase().replaceAll('-', ':');
