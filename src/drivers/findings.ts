import { HatcheryError } from '../core/errors.js';
import type { CheckFinding } from '../ports/hypervisor.js';

export const good = (subject: string, detail: string): CheckFinding => ({ ok: true, subject, detail });

/** Works, and somebody should look all the same. */
export const doubtful = (subject: string, detail: string, remedy: string): CheckFinding => ({
  ok: true,
  warning: true,
  subject,
  detail,
  remedy,
});

export const bad = (subject: string, detail: string, remedy: string): CheckFinding => ({
  ok: false,
  subject,
  detail,
  remedy,
});

/** A check that cannot be made is a finding too. */
export async function guarded(
  subject: string,
  signal: AbortSignal,
  check: () => Promise<readonly CheckFinding[]>,
): Promise<readonly CheckFinding[]> {
  try {
    return await check();
  } catch (error) {
    if (signal.aborted || !(error instanceof HatcheryError)) throw error;
    return [
      { ok: false, subject, detail: error.message, ...(error.hint !== undefined && { remedy: error.hint }) },
    ];
  }
}

/** `a, b and 7 more`. */
export function listed(items: readonly (string | number)[], shown = 8): string {
  const more = items.length - shown;
  return more > 0 ? `${items.slice(0, shown).join(', ')} and ${more} more` : items.join(', ');
}
