import { createHash } from 'node:crypto';

/** One stream of reproducible random numbers. */
export class RandomStream {
  #state: [number, number, number, number];

  constructor(key: string) {
    const hash = createHash('sha256').update(key).digest();
    this.#state = [hash.readUInt32LE(0), hash.readUInt32LE(4), hash.readUInt32LE(8), hash.readUInt32LE(12)];
  }

  /** 0 <= x < 1 (sfc32). */
  next(): number {
    const state = this.#state;
    const sum = (((state[0] + state[1]) | 0) + state[3]) | 0;
    state[3] = (state[3] + 1) | 0;
    state[0] = state[1] ^ (state[1] >>> 9);
    state[1] = (state[2] + (state[2] << 3)) | 0;
    state[2] = ((state[2] << 21) | (state[2] >>> 11)) + sum;
    return (sum >>> 0) / 4_294_967_296;
  }

  /** An integer in 0..below-1. */
  integer(below: number): number {
    return Math.floor(this.next() * below);
  }

  hex(digits: number): string {
    return Array.from({ length: digits }, () => this.integer(16).toString(16)).join('');
  }

  uuid(): string {
    const text = `${this.hex(12)}4${this.hex(3)}${'89ab'[this.integer(4)]}${this.hex(15)}`;
    return text.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  }

  /** Log-normal: half of the draws are below `median`, 95 % are below `p95`. */
  logNormal(median: number, p95: number): number {
    const sigma = Math.log(p95 / median) / 1.645;
    const uniform = Math.max(this.next(), Number.MIN_VALUE);
    const normal = Math.sqrt(-2 * Math.log(uniform)) * Math.cos(2 * Math.PI * this.next());
    return median * Math.exp(sigma * normal);
  }
}

/** Randomness of a whole world: seed + operation + guest (+ how often that was asked) gives the same numbers whatever else runs beside it. */
export class SimRandom {
  readonly #asked = new Map<string, number>();

  constructor(readonly seed: string) {}

  /** The n-th call with the same key gives the n-th stream of this key. */
  stream(...key: readonly (string | number)[]): RandomStream {
    const name = key.join('|');
    const nth = (this.#asked.get(name) ?? 0) + 1;
    this.#asked.set(name, nth);
    return new RandomStream(`${this.seed}|${name}|${nth}`);
  }
}
