import { randomBytes } from 'node:crypto';
import type { SimRequest } from '../http.js';
import { PveError, type RawValue } from './wire.js';

/** An upload: its fields, and its one file as the server keeps it until the call takes it. */
interface Upload {
  readonly fields: ReadonlyMap<string, RawValue>;
  readonly temporary: string;
  readonly bytes: Buffer;
}

/** Fields first, then the file in a part named `filename`: the server reads them as they come. */
export function decodeUpload({ headers, body }: Pick<SimRequest, 'headers' | 'body'>): Upload {
  const boundary = /^multipart\/form-data;.*boundary="?([^";]+)"?/.exec(headers['content-type'] ?? '')?.[1];
  const fields = new Map<string, RawValue>();
  for (const part of boundary === undefined ? [] : partsOf(body, boundary)) {
    const name = /name="([^"]*)"/.exec(part.head)?.[1] ?? '';
    const filename = /filename="([^"]*)"/.exec(part.head)?.[1];
    if (name !== 'filename' || filename === undefined) {
      fields.set(name, part.bytes.toString());
      continue;
    }
    const temporary = `/var/tmp/pveupload-${randomBytes(16).toString('hex')}`;
    fields.set('filename', filename);
    fields.set('tmpfilename', temporary);
    return { fields, temporary, bytes: part.bytes };
  }
  throw new PveError(501, 'upload failed', { raw: true });
}

interface Part {
  readonly head: string;
  readonly bytes: Buffer;
}

function* partsOf(body: Buffer, boundary: string): Iterable<Part> {
  const line = Buffer.from(`--${boundary}`);
  for (let at = body.indexOf(line); at >= 0;) {
    const start = at + line.length + 2;
    const next = body.indexOf(line, start);
    const headEnd = body.indexOf('\r\n\r\n', start);
    if (next < 0 || headEnd < 0) return;
    yield { head: body.toString('utf8', start, headEnd), bytes: body.subarray(headEnd + 4, next - 2) };
    at = next;
  }
}
