import { describe, expect, it } from 'vitest';
import { HatcheryError } from '../core/errors.js';
import type { OnceHooks } from '../plan/step.js';
import { plainCall } from '../ports/call.js';
import { noCheckpoints } from '../ports/checkpoints.js';
import type { RemoteNote, RunStore } from '../ports/run-store.js';
import { OnceNotes } from './once.js';
import { StaleHolder } from './stale-holder.js';

const CLAIMED_MS = 5_000;

/** One step's notes in Postgres, and an attempt that works with them. */
class Notes {
  readonly stored = new Map<string, RemoteNote>();
  readonly end = new AbortController();
  isHeld = true;
  sends = 0;

  attempt(claimedAtMs = CLAIMED_MS): OnceNotes {
    const store = {
      note: async (_held: unknown, key: string, note: RemoteNote | undefined) => {
        if (!this.isHeld) return false;
        if (note === undefined) this.stored.delete(key);
        else this.stored.set(key, note);
        return true;
      },
    } as unknown as RunStore;
    return new OnceNotes(
      {
        store,
        claimedAtMs,
        checkpoints: noCheckpoints,
        held: { stepId: 's', epoch: 1, workerId: 'w' },
        call: plainCall(this.end.signal),
        step: 'clone',
        runId: 'r',
        unknownAfterMs: 700,
      },
      Object.fromEntries(this.stored),
    );
  }

  hooks(
    send: () => Promise<string>,
    resolve: OnceHooks<string>['resolve'] = async () => ({ found: 'nothing' }),
  ): OnceHooks<string> {
    return { send: () => ((this.sends += 1), send()), resolve };
  }
}

const refused = (code: 'remote-refused' | 'outcome-unknown') => (): Promise<never> =>
  Promise.reject(new HatcheryError(code, 'Unable to clone: no', { retry: 'later' }));

describe('a remote request that is sent once', () => {
  it('is not sent again when its id is known, by this attempt or a later one', async () => {
    const notes = new Notes();
    const hooks = notes.hooks(async () => 'upid');
    const first = notes.attempt();
    expect([await first.once('k', hooks), await first.once('k', hooks)]).toEqual(['upid', 'upid']);
    expect(await notes.attempt().once('k', hooks)).toBe('upid');
    expect(notes.sends).toBe(1);
  });

  it('is looked for from before it was sent, and sent again only when nothing came of it', async () => {
    const notes = new Notes();
    await expect(notes.attempt().once('k', notes.hooks(refused('outcome-unknown')))).rejects.toThrow('no');
    const asked: number[] = [];
    const looking = notes.hooks(
      async () => 'second',
      async (sinceMs) => (asked.push(sinceMs), { found: 'nothing' }),
    );
    expect(await notes.attempt(9_000).once('k', looking)).toBe('second');
    expect(asked).toEqual([CLAIMED_MS]);
    expect(notes.stored.get('k')).toEqual({ sinceMs: CLAIMED_MS, value: 'second' });
  });

  it.each(['running', 'done'] as const)('is adopted when the earlier one is %s', async (found) => {
    const notes = new Notes();
    notes.stored.set('k', { sinceMs: 1 });
    const hooks = notes.hooks(refused('remote-refused'), async () => ({ found, value: 'theirs' }));
    expect(await notes.attempt().once('k', hooks)).toBe('theirs');
    expect(notes.sends).toBe(0);
  });

  it('waits while nobody can tell what became of the earlier one', async () => {
    const notes = new Notes();
    notes.stored.set('k', { sinceMs: 1 });
    const hooks = notes.hooks(refused('remote-refused'), async () => ({ found: 'unknown', why: 'dark' }));
    await expect(notes.attempt().once('k', hooks)).rejects.toMatchObject({
      code: 'outcome-unknown',
      retry: 'later',
      afterMs: 700,
    });
    expect(notes.sends).toBe(0);
  });

  it('is forgotten when it was refused for certain, but not when the attempt itself was cut short', async () => {
    const notes = new Notes();
    await expect(notes.attempt().once('k', notes.hooks(refused('remote-refused')))).rejects.toThrow('no');
    expect(notes.stored.size).toBe(0);
    const cut = notes.hooks(() => (notes.end.abort(), refused('remote-refused')()));
    await expect(notes.attempt().once('k', cut)).rejects.toThrow('no');
    expect(notes.stored.get('k')).toEqual({ sinceMs: CLAIMED_MS });
  });

  it('is not sent by an attempt whose step was given to somebody else', async () => {
    const notes = new Notes();
    notes.isHeld = false;
    await expect(
      notes.attempt().once(
        'k',
        notes.hooks(async () => 'upid'),
      ),
    ).rejects.toBeInstanceOf(StaleHolder);
    expect(notes.sends).toBe(0);
  });
});
