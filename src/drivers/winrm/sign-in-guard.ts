import { HatcheryError } from '../../core/errors.js';
import type { Clock } from '../../ports/clock.js';
import { ShellLimit } from './shell-limit.js';

/** How long a refused sign-in is believed. Not scaled: it guards a real account against a real lock-out policy. */
const REFUSED_FOR_MS = 60_000;

/**
 * Keeps a wrong password from locking the Windows account: until one sign-in has succeeded they go one at a time, and after a refusal
 * nobody tries again for a minute. A class of 120 with a wrong password costs one try a minute and process.
 */
export class SignInGuard {
  readonly #oneByOne = new ShellLimit(1);
  #isProven = false;
  #refusal: { error: HatcheryError; untilMs: number } | undefined;

  constructor(private readonly clock: Clock) {}

  async with<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    return this.#isProven ? this.#attempt(work) : this.#oneByOne.with(signal, () => this.#attempt(work));
  }

  async #attempt<T>(work: () => Promise<T>): Promise<T> {
    if (this.#refusal && this.clock.monotonicMs() < this.#refusal.untilMs) throw this.#refusal.error;
    try {
      const result = await work();
      this.#isProven = true;
      this.#refusal = undefined;
      return result;
    } catch (error) {
      if (error instanceof HatcheryError && error.facts['signIn'] === 'refused') {
        this.#isProven = false;
        this.#refusal = { error, untilMs: this.clock.monotonicMs() + REFUSED_FOR_MS };
      }
      throw error;
    }
  }
}
