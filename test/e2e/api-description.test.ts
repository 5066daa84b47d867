import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { describeApi } from '../../src/app/openapi-document.js';
import { brunoFiles, clientFiles, readFolder } from '../../scripts/api-files.mjs';

const ROOT = join(import.meta.dirname, '..', '..');
const document = JSON.parse(JSON.stringify(await describeApi())) as Awaited<ReturnType<typeof describeApi>>;

describe('what is generated from the API description', () => {
  it('is current in src/client (else: npm run client)', async () => {
    expect(await readFolder(join(ROOT, 'src/client'))).toEqual(await clientFiles(document));
  });

  it('is current in docs/api (else: npm run docs:api)', async () => {
    const committed = await readFolder(join(ROOT, 'docs/api'));
    const fresh = new Map([...brunoFiles(document)].sort(([a], [b]) => (a < b ? -1 : 1)));
    expect(committed).toEqual(fresh);
  });
});
