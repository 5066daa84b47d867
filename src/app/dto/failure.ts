import type { z } from 'zod';
import type { ErrorRecord } from '../../core/errors.js';
import type { Failure } from './problem.dto.js';

/** Without `facts`: they may hold details of remote systems and stay in the log. */
export const failureView = (error: ErrorRecord | null): z.infer<typeof Failure> | null =>
  error === null
    ? null
    : { code: error.code, message: error.message, ...(error.hint === undefined ? {} : { hint: error.hint }) };
