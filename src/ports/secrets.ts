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
  /** The machine's generated password: made once, the same reference ever after. */
  ensurePassword(machineId: string): Promise<string>;
  reveal(ref: string): Promise<Secret>;
}
