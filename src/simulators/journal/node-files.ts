import { isDeployment } from './actors.js';
import type { NumberedLine } from './read-lines.js';

/** Files that deployments put on nodes over SSH and did not take away again. */
export class NodeFileLedger {
  readonly #there = new Set<string>();

  apply({ op, effect, actor, resource }: NumberedLine): void {
    if (effect !== true || resource === undefined || !isDeployment(actor)) return;
    if (op === 'ssh.file.put') this.#there.add(resource);
    if (op === 'ssh.file.remove') this.#there.delete(resource);
  }

  /** `<node>:<path>`; on a shared storage the path alone. */
  files(): string[] {
    return [...this.#there];
  }
}
