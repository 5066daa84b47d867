import type { Act, ActTarget } from '../acts.js';
import type { SimulatorContext } from '../context.js';
import { DhcpServer, windowsMac, worldMac } from './dhcp-server.js';
import type { Shells } from './shells.js';

/** Does what fault rules say to the Windows server. What it does not allow (an address that is in a list already) does not happen, and the journal says why. */
export class WinrmActs {
  constructor(
    private readonly context: SimulatorContext,
    private readonly shells: Shells,
    private readonly computer: string,
    /** Whose quota `take-shells` uses up. */
    private readonly account: string,
  ) {}

  perform(act: Act, target: ActTarget): void {
    if (act.inMs !== undefined) {
      this.context.clock.after(act.inMs, () => this.perform({ ...act, inMs: undefined }, target));
      return;
    }
    try {
      this.#do(act, target);
    } catch (error) {
      this.#note(act.do, { effect: false, error: error instanceof Error ? error.message : String(error) });
    }
  }

  #do(act: Act, { params }: ActTarget): void {
    switch (act.do) {
      case 'add-filter':
        return this.#server(act.owner).add(act.list, macOf(act.mac ?? params?.['mac']), act.description);
      case 'remove-filter':
        return this.#server(act.owner).remove(macOf(act.mac ?? params?.['mac']));
      case 'take-shells': {
        const taken = this.shells.takeAll(this.account);
        this.#note(act.do, { shells: taken.length });
        return this.context.clock.after(act.forMs, () => {
          for (const shell of taken) this.shells.close(shell);
        });
      }
      case 'close-shells':
        this.#note(act.do, { shells: this.shells.countOf() });
        return this.shells.closeAll();
      default:
    }
  }

  #server(owner: string): DhcpServer {
    return new DhcpServer(this.context.world.dhcp, this.computer, ({ op, filter, effect }) =>
      this.context.journal.record({
        sim: 'winrm',
        event: 'foreign',
        actor: `foreign:${owner}`,
        op,
        effect,
        resource: worldMac(filter.mac),
        params: { description: filter.description, list: filter.list },
      }),
    );
  }

  #note(name: string, { effect = true, ...params }: { effect?: boolean; [more: string]: unknown }): void {
    this.context.journal.record({
      sim: 'winrm',
      event: 'foreign',
      actor: 'simulator',
      op: `condition.${name}`,
      effect,
      params,
    });
  }
}

function macOf(value: unknown): string {
  if (typeof value === 'string') return windowsMac(value);
  throw new Error('the rule names no mac, and neither does the operation');
}
