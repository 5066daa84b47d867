import { Catch, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import type { Request, Response } from 'express';
import { ERRORS } from '../../core/errors.js';
import { asHatcheryError, problemBody } from './problem.js';

/** Answers every error as problem+json; no stack ever leaves the process. */
@Catch()
export class ProblemFilter implements ExceptionFilter {
  catch(thrown: unknown, host: ArgumentsHost): void {
    const http = host.switchToHttp();
    const request = http.getRequest<Request & { id?: string }>();
    const response = http.getResponse<Response>();
    const error = asHatcheryError(thrown);
    // pino-http writes `err` with the request's line.
    if (ERRORS[error.code].status >= 500 && (error.code === 'internal' || error.cause !== undefined))
      response.err = thrown instanceof Error ? thrown : new Error(String(thrown));
    if (response.headersSent) {
      response.end();
      return;
    }
    const body = problemBody(error, request.id);
    if (error.code === 'not-signed-in') response.setHeader('WWW-Authenticate', 'Bearer');
    if (error.afterMs !== undefined)
      response.setHeader('Retry-After', String(Math.max(1, Math.ceil(error.afterMs / 1000))));
    response.status(body.status).type('application/problem+json').send(JSON.stringify(body));
  }
}
