import { HatcheryError } from '../core/errors.js';
import type { OnceHooks } from '../plan/step.js';
import type { Call } from '../ports/call.js';
import type { Checkpoints } from '../ports/checkpoints.js';
import type { HeldStep, RemoteNote, RunStore } from '../ports/run-store.js';
import { StaleHolder } from './stale-holder.js';

/**
 * The memory of `run.once`: a remote id is stored the moment it is known.
 * Before the first send a note without a value is stored; a note without a value after a crash means "perhaps sent": `resolve` decides by
 * evidence, and only "nothing" lets `send` run again. Unknown: `outcome-unknown`, retried later.
 */
export class OnceNotes {
  private readonly notes: Map<string, RemoteNote>;

  constructor(
    private readonly at: {
      store: RunStore;
      /** Database time of the claim, Unix milliseconds: no request of this attempt is older. */
      claimedAtMs: number;
      checkpoints: Checkpoints;
      held: HeldStep;
      call: Call;
      step: string;
      runId: string;
      unknownAfterMs: number;
    },
    notes: Readonly<Record<string, RemoteNote>>,
  ) {
    this.notes = new Map(Object.entries(notes));
  }

  async once<T>(key: string, hooks: OnceHooks<T>): Promise<T> {
    const { call } = this.at;
    const earlier = this.notes.get(key);
    if (earlier && 'value' in earlier) return earlier.value as T;
    if (earlier) {
      const trace = await hooks.resolve(earlier.sinceMs, call);
      // What cannot be read now is asked for again when it can: that is a matter of the cluster, not of this request.
      if (trace.found === 'unknown' && trace.cause?.retry === 'later') throw trace.cause;
      if (trace.found === 'unknown')
        throw new HatcheryError(
          'outcome-unknown',
          `Unable to tell what became of the earlier request of step ${this.at.step}: ${trace.why}`,
          {
            retry: 'later',
            afterMs: this.at.unknownAfterMs,
          },
        );
      if (trace.found !== 'nothing') return this.keep(key, earlier.sinceMs, trace.value);
    }
    const sinceMs = earlier?.sinceMs ?? this.at.claimedAtMs;
    if (!earlier) await this.write(key, { sinceMs });
    const value = await this.send(key, hooks);
    await this.at.checkpoints.reach('K4', { step: this.at.step, runId: this.at.runId });
    return this.keep(key, sinceMs, value);
  }

  private async send<T>(key: string, hooks: OnceHooks<T>): Promise<T> {
    try {
      return await hooks.send(this.at.call);
    } catch (error) {
      // Refused for certain: nothing to look for next time. Anything else, or cut short by our own end, may have arrived, and the note stays.
      const isRefused = error instanceof HatcheryError && error.code !== 'outcome-unknown';
      if (isRefused && !this.at.call.signal.aborted) await this.forget(key);
      throw error;
    }
  }

  async forget(key: string): Promise<void> {
    if (!this.notes.has(key)) return;
    this.notes.delete(key);
    if (!(await this.at.store.note(this.at.held, key, undefined))) throw new StaleHolder();
  }

  private async keep<T>(key: string, sinceMs: number, value: T): Promise<T> {
    await this.write(key, { sinceMs, value });
    await this.at.checkpoints.reach('K5', { step: this.at.step, runId: this.at.runId });
    return value;
  }

  private async write(key: string, note: RemoteNote): Promise<void> {
    if (!(await this.at.store.note(this.at.held, key, note))) throw new StaleHolder();
    this.notes.set(key, note);
  }
}
