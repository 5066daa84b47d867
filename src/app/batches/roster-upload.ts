import { applyDecorators, UseInterceptors } from '@nestjs/common';
import { FileInterceptor } from '@nestjs/platform-express';
import { ApiConsumes } from '@nestjs/swagger';
import { HatcheryError } from '../../core/errors.js';
import type { Roster } from '../../core/roster/roster.js';
import { ROSTER_LIMITS } from '../../core/roster/limits.js';
import type { RosterReader } from './roster-reader.js';

/** The part of a multipart upload that we read. */
export interface UploadedRoster {
  readonly originalname: string;
  readonly buffer: Buffer;
}

/** A multipart form with one file `roster`, held in memory, and text fields. */
export function RosterForm(): MethodDecorator {
  return applyDecorators(
    ApiConsumes('multipart/form-data'),
    UseInterceptors(
      FileInterceptor('roster', {
        limits: { fileSize: ROSTER_LIMITS.xlsxBytes, files: 1, fields: 8, fieldSize: 4096, parts: 10 },
      }),
    ),
  );
}

/** Errors: `request-invalid` without a file, `roster-invalid` with every finding. */
export async function readUpload(reader: RosterReader, file: UploadedRoster | undefined): Promise<Roster> {
  if (!file)
    throw new HatcheryError('request-invalid', 'Unable to read the request: the file is missing', {
      hint: 'Send a multipart form with the class list in the field "roster".',
    });
  return reader.read({ name: file.originalname, bytes: file.buffer });
}
