import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { HatcheryError } from '../core/errors.js';

/** The class list as it is uploaded. Error: `request-invalid` when the file cannot be read. */
export async function rosterFile(path: string): Promise<File> {
  try {
    return new File([await readFile(path)], basename(path));
  } catch (cause) {
    throw new HatcheryError('request-invalid', `Unable to read the roster: ${reasonOf(cause, path)}`, {
      hint: 'Give the path of a CSV or XLSX file.',
      cause,
    });
  }
}

function reasonOf(cause: unknown, path: string): string {
  switch ((cause as NodeJS.ErrnoException).code) {
    case 'ENOENT':
      return `there is no file ${path}`;
    case 'EISDIR':
      return `${path} is a folder`;
    case 'EACCES':
      return `${path} may not be read`;
    default:
      return (cause as Error).message;
  }
}
