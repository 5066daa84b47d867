import { createHash } from 'node:crypto';
import { holdsFiles, volumeKey, type StorageContent } from '../world.js';
import { need } from './auth.js';
import { drawMs } from './durations.js';
import { OPTIONAL_TEXT } from './params.js';
import type { Handled, PveCall, Route } from './pve.js';
import { folderOf, usableStorage } from './volumes.js';
import { failure, parameterErrors } from './wire.js';

const CONTENTS = ['iso', 'vztmpl', 'import'] as const;
const EXTENSIONS = {
  iso: /\.(?:iso|img)$/i,
  vztmpl: /\.tar\.(?:gz|xz|zst|bz2)$/i,
  import: /\.(?:ova|ovf|qcow2|raw|vmdk)$/i,
};
const ALGORITHMS = ['md5', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512'];

/** Archives and images only: nothing that a node would run can be uploaded. The node that got it brings it to the one of the path. */
export const uploadRoute: Route = {
  method: 'POST',
  path: '/nodes/{node}/storage/{storage}/upload',
  op: 'storage.upload',
  kind: 'fork',
  local: true,
  params: {
    checksum: { ...OPTIONAL_TEXT, requires: 'checksum-algorithm' },
    'checksum-algorithm': { ...OPTIONAL_TEXT, enum: ALGORITHMS, requires: 'checksum' },
    content: {
      type: 'string',
      enum: [...CONTENTS],
      format: (value) => (/^[a-z]+$/.test(value) ? undefined : `invalid content type '${value}'`),
    },
    filename: { type: 'string', maxLength: 255 },
    tmpfilename: { ...OPTIONAL_TEXT, pattern: /^\/var\/tmp\/pveupload-[0-9a-f]+$/ },
  },
  permit: (account, path) => need(account, `/storage/${path['storage']}`, 'Datastore.AllocateTemplate'),
  handle: startUpload,
};

function startUpload(call: PveCall): Handled {
  const { pve, params, path, account, op, faults, local } = call;
  const node = path['node'] ?? local;
  const storage = usableStorage(pve, path['storage'] ?? '', node);
  if (!holdsFiles(storage))
    throw failure(`can't upload to storage type '${storage.type}', not a file based storage!`);
  const content = params.need('content') as (typeof CONTENTS)[number];
  const temporary = params.text('tmpfilename');
  if (temporary === undefined) throw failure('missing temporary file name');
  const bytes = pve.uploads.get(temporary);
  if (!bytes) throw failure(`temporary file '${temporary}' does not exist`);
  pve.uploads.delete(temporary);
  const filename = params
    .need('filename')
    .replace(/^.*[/\\]/, '')
    .replace(/[^-a-zA-Z0-9_.]/g, '_');
  if (!EXTENSIONS[content].test(filename)) throw parameterErrors({ filename: 'wrong file extension' });
  if (!storage.content.includes(content))
    throw failure(`storage '${storage.id}' does not support '${content}' content`);
  const checksum = params.text('checksum');
  const setup = { node: local, type: 'imgcopy', id: '', actor: account.id, op, vmid: 0, faults };
  const task = pve.tasks.start(setup, async (running) => {
    running.log(`target node: ${node}`);
    running.log(
      `target file: ${folderOf(storage)}/template/${content === 'vztmpl' ? 'cache' : content}/${filename}`,
    );
    await pve.context.clock.sleep(drawMs(pve.context, 'fork', filename), running.signal);
    if (checksum !== undefined && checksum !== hashOf(params.need('checksum-algorithm'), bytes))
      throw failure('checksum mismatch');
    const volid = `${storage.id}:${content}/${filename}`;
    const owner = storage.shared ? undefined : node;
    const file = { volid, storage: storage.id, node: owner, content: content satisfies StorageContent };
    pve.world.files.set(volumeKey(owner, volid), { ...file, text: '', sizeBytes: bytes.length });
    return { effect: true, params: { volid } };
  });
  return { data: task.upid, journal: { upid: task.upid } };
}

function hashOf(algorithm: string, bytes: Buffer): string {
  return createHash(algorithm).update(bytes).digest('hex');
}
