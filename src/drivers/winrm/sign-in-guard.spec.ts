import { describe, expect, it } from 'vitest';
import { HatcheryError } from '../../core/errors.js';
import { SignInGuard } from './sign-in-guard.js';

const { signal } = new AbortController();
const refusal = new HatcheryError('permission-missing', 'Unable to sign in: wrong', {
  facts: { signIn: 'refused' },
});

function bench() {
  let nowMs = 0;
  const guard = new SignInGuard({
    monotonicMs: () => nowMs,
    wallMs: () => nowMs,
    sleep: () => Promise.resolve(),
  });
  return { guard, pass: (ms: number) => (nowMs += ms) };
}

describe('the guard of the Windows account', () => {
  it('lets a hundred waiting steps cost one refused sign-in, and one more after a minute', async () => {
    const { guard, pass } = bench();
    let tries = 0;
    const signIn = (): Promise<never> => {
      tries += 1;
      return Promise.reject(refusal);
    };
    const storm = (): Promise<unknown> =>
      Promise.allSettled(Array.from({ length: 100 }, () => guard.with(signal, signIn)));
    await storm();
    expect(tries).toBe(1);
    pass(59_999);
    await storm();
    expect(tries).toBe(1);
    pass(1);
    await storm();
    expect(tries).toBe(2);
  });

  it('goes side by side once a sign-in has succeeded', async () => {
    const { guard } = bench();
    await guard.with(signal, () => Promise.resolve());
    let open = 0;
    let most = 0;
    await Promise.all(
      Array.from({ length: 5 }, () =>
        guard.with(signal, async () => {
          most = Math.max(most, (open += 1));
          await new Promise(setImmediate);
          open -= 1;
        }),
      ),
    );
    expect(most).toBe(5);
  });

  it('forgets a refusal when other errors come: they say nothing about the password', async () => {
    const { guard } = bench();
    await expect(guard.with(signal, () => Promise.reject(new Error('cut')))).rejects.toThrow('cut');
    await expect(guard.with(signal, () => Promise.resolve('in'))).resolves.toBe('in');
  });
});
