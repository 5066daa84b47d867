import { StandardSchemaValidationPipe } from '@nestjs/common';
import { HatcheryError, type Problem } from '../../core/errors.js';

const LONGEST = 300;

/** A caller's own words are repeated, but not a whole request of them. */
const shortened = (text: string): string => (text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text);

/** Checks what a parameter's zod schema says; every finding is named. */
export function validationPipe(): StandardSchemaValidationPipe {
  return new StandardSchemaValidationPipe({
    exceptionFactory: (issues) => {
      const problems = issues.slice(0, 50).map((issue): Problem => {
        const column = (issue.path ?? [])
          .map((segment) => String(typeof segment === 'object' ? segment.key : segment))
          .join('.')
          .slice(0, LONGEST);
        return {
          ...(column === '' ? {} : { column }),
          code: 'request-invalid',
          detail: shortened(issue.message),
        };
      });
      const first = problems[0];
      const place = first?.column === undefined ? '' : `${first.column}: `;
      return new HatcheryError(
        'request-invalid',
        `Unable to read the request: ${place}${first?.detail ?? 'it has the wrong form'}`,
        {
          hint: 'The form of every request is described at /docs.',
          problems,
        },
      );
    },
  });
}
