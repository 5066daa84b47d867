import type { Call } from './call.js';
import type { CheckFinding } from './hypervisor.js';

/** A configured service that can be asked whether it is fit for its use: a DHCP server, a desktop gateway. */
export interface CheckedService {
  readonly name: string;
  readonly kind: string;
  check(call: Call): Promise<readonly CheckFinding[]>;
}
