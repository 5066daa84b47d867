/** A secret that prints as `***` everywhere; `reveal` is the only way out. */
export class Secret {
  readonly #value: string;
  constructor(value: string) {
    this.#value = value;
  }
  reveal(): string {
    return this.#value;
  }
  toString(): string {
    return '***';
  }
  toJSON(): string {
    return '***';
  }
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '***';
  }
}

/** Encrypted at rest; everything else carries only the reference (`secretRef`). */
export interface Secrets {
  /** Makes the secret once per (machine, purpose) and gives its reference; a second call gives the first reference. */
  ensure(machineId: string, purpose: string, make: () => string): Promise<string>;
  reveal(ref: string): Promise<Secret>;
  /** Removes every secret of a machine that is gone. */
  forget(machineId: string): Promise<void>;
}
