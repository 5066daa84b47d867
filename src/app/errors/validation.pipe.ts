import { StandardSchemaValidationPipe } from '@nestjs/common';
import { HatcheryError, type Problem } from '../../core/errors.js';

/** Checks what a parameter's zod schema says; every finding is named. */
export function validationPipe(): StandardSchemaValidationPipe {
  return new StandardSchemaValidationPipe({
    exceptionFactory: (issues) => {
      const problems = issues.slice(0, 50).map((issue): Problem => {
        const column = (issue.path ?? [])
          .map((segment) => String(typeof segment === 'object' ? segment.key : segment))
          .join('.');
        return { ...(column === '' ? {} : { column }), code: 'request-invalid', detail: issue.message };
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
