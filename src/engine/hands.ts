/** Steps that somebody in this worker works on, or is about to. */
export class Hands {
  readonly #steps = new Map<string, number>();

  take(stepId: string): void {
    this.#steps.set(stepId, (this.#steps.get(stepId) ?? 0) + 1);
  }

  drop(stepId: string): void {
    const left = (this.#steps.get(stepId) ?? 0) - 1;
    if (left > 0) this.#steps.set(stepId, left);
    else this.#steps.delete(stepId);
  }

  has(stepId: string): boolean {
    return this.#steps.has(stepId);
  }
}
