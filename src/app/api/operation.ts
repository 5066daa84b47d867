import { applyDecorators, HttpCode } from '@nestjs/common';
import { ApiBearerAuth, ApiHeader, ApiOperation, ApiResponse } from '@nestjs/swagger';
import type { z } from 'zod';
import { Public, Roles, type Access } from '../auth/access.js';
import { ProblemDetails } from '../dto/problem.dto.js';

interface OperationOptions {
  readonly summary: string;
  readonly access: Access;
  /** Status of success; 200 when absent. */
  readonly status?: number;
  /** Absent = no body. */
  readonly answer?: z.ZodType;
  /** Repeating the call with the same Idempotency-Key gives the first answer. */
  readonly idempotent?: boolean;
}

/** What a route is called in the API description, who may call it and what it answers. */
export function Operation(operationId: string, options: OperationOptions): MethodDecorator {
  const { summary, access, status = 200, answer, idempotent } = options;
  return applyDecorators(
    ApiOperation({ operationId, summary }),
    HttpCode(status),
    ApiResponse({ status, description: summary, ...(answer ? { standardSchema: answer } : {}) }),
    ApiResponse({
      status: 'default',
      description: 'Refused: see code, detail and hint',
      standardSchema: ProblemDetails,
    }),
    ...(idempotent
      ? [
          ApiHeader({
            name: 'Idempotency-Key',
            required: false,
            description: 'The same key and content again gives the first answer',
          }),
        ]
      : []),
    ...(access === 'public' ? [Public()] : [Roles(...access), ApiBearerAuth()]),
  );
}
