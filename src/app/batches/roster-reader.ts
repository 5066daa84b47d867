import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { HatcheryError, type Problem } from '../../core/errors.js';
import { fileKind } from '../../core/roster/file-kind.js';
import { readRoster, type Roster } from '../../core/roster/roster.js';
import { PACKAGE_ROOT } from '../config/package-root.js';

/** What a thread says at its end. */
export type ThreadAnswer =
  | { readonly roster: Roster }
  | {
      readonly refusal: { message: string; hint: string | undefined; problems: readonly Problem[] };
    };

const ENTRY = join(PACKAGE_ROOT, 'dist', 'app', 'batches', 'roster-thread.js');
/** Many times what the largest class list takes. */
const DEADLINE_MS = 15_000;
const MEMORY = { maxOldGenerationSizeMb: 320, maxYoungGenerationSizeMb: 32 };
const THREADS = 2;
const WAITING = 20;

interface Upload {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/**
 * Reads rosters so that no file can hold up the service: text is read at once, workbooks in a thread with a deadline and little memory,
 * two at a time.
 */
export class RosterReader {
  private readonly line: (() => void)[] = [];
  private busy = 0;

  constructor(
    private readonly limits: { deadlineMs: number; waiting: number } = {
      deadlineMs: DEADLINE_MS,
      waiting: WAITING,
    },
  ) {}

  /** Errors: `roster-invalid` with every finding; `too-many-requests` when too many workbooks wait already. */
  async read(file: Upload): Promise<Roster> {
    if (fileKind(file.bytes).kind !== 'zip') return readRoster(file);
    await this.enter();
    try {
      return await this.readAside(file);
    } finally {
      this.leave();
    }
  }

  private async enter(): Promise<void> {
    if (this.busy < THREADS) {
      this.busy += 1;
      return;
    }
    if (this.line.length >= this.limits.waiting)
      throw new HatcheryError(
        'too-many-requests',
        'Unable to read the roster: too many workbooks are being read',
        { afterMs: 5000, hint: 'Send it again in a moment, or as CSV.' },
      );
    await new Promise<void>((resolve) => this.line.push(resolve));
  }

  /** The place goes to who waits longest. */
  private leave(): void {
    const next = this.line.shift();
    if (next) next();
    else this.busy -= 1;
  }

  private async readAside({ name, bytes }: Upload): Promise<Roster> {
    const thread = new Worker(ENTRY, {
      workerData: { name, bytes },
      resourceLimits: MEMORY,
      stderr: true,
      env: {},
    });
    let deadline: NodeJS.Timeout | undefined;
    try {
      const answer = await new Promise<ThreadAnswer>((resolve, reject) => {
        deadline = setTimeout(() => reject(tooMuch()), this.limits.deadlineMs);
        thread.once('message', resolve);
        thread.once('error', (error: NodeJS.ErrnoException) =>
          reject(error.code === 'ERR_WORKER_OUT_OF_MEMORY' ? tooMuch() : error),
        );
        thread.once('exit', () => reject(new Error('the thread that reads rosters ended without an answer')));
      });
      if ('roster' in answer) return answer.roster;
      const { message, hint, problems } = answer.refusal;
      throw new HatcheryError('roster-invalid', message, {
        ...(hint === undefined ? {} : { hint }),
        problems,
      });
    } finally {
      clearTimeout(deadline);
      await thread.terminate();
    }
  }
}

function tooMuch(): HatcheryError {
  const detail = 'The workbook takes too much time or memory to be read';
  const hint = 'Copy the list into a new workbook, or save it as CSV UTF-8 (.csv).';
  return new HatcheryError('roster-invalid', `Unable to read the roster: ${detail.toLowerCase()}`, {
    hint,
    problems: [{ code: 'xlsx-unreadable', detail: `${detail}.`, hint }],
  });
}
