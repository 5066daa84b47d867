import { normaliseMac, usableAddress } from '../core/address.js';
import type { PhoneHomes } from '../ports/phone-homes.js';
import { changeRun, type EngineParts } from './engine.js';

/** What a guest says of itself: text that nobody checked. */
export interface PhoneCall {
  readonly token: string;
  readonly addresses: readonly { readonly mac: string; readonly address: string }[];
}

/** Takes the calls of guests that phone home. */
export class PhoneHome {
  constructor(
    private readonly homes: Pick<PhoneHomes, 'find'>,
    private readonly engine: Pick<
      EngineParts,
      'store' | 'steps' | 'effects' | 'times' | 'wakeUps' | 'random' | 'retryBudget' | 'clock'
    >,
  ) {}

  /**
   * Keeps the address of the machine's own network card and wakes its run; the token is used up then, and only then.
   * False: no token of a machine that is being made, used before, or no usable address of that card. Nobody is told which.
   */
  async take({ token, addresses }: PhoneCall): Promise<boolean> {
    const found = await this.homes.find(token);
    if (found === undefined) return false;
    const own = addresses.filter(({ mac }) => normaliseMac(mac) === found.mac);
    const address = usableAddress(own.map((one) => one.address));
    if (address === undefined) return false;
    const by = { runId: found.runId };
    return (await changeRun(this.engine, by, (model) => model.toldAddress(found.hash, address))) === true;
  }
}
