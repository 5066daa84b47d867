import type { WorldGuest } from '../world.js';
import { agentError, permitAgent, ready } from './agent-reach.js';
import { OPTIONAL_COUNT, OPTIONAL_FLAG, TEXT } from './params.js';
import { guestOn, type Handled, type PveCall, type Route } from './pve.js';
import { failure } from './wire.js';

const LIMIT_BYTES = 16_777_216;
/** Below the 64 KiB of a request. */
const CONTENT_CHARACTERS = 61_440;

export const agentFileRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/nodes/{node}/qemu/{vmid}/agent/file-read',
    op: 'qemu.agent.file-read',
    kind: 'agent',
    params: {
      count: { type: 'integer', optional: true, minimum: 1, maximum: LIMIT_BYTES, version: '9.1' },
      decode: { ...OPTIONAL_FLAG, version: '9.1' },
      file: TEXT,
      offset: { ...OPTIONAL_COUNT, version: '9.1' },
    },
    permit: permitAgent('VM.GuestAgent.FileRead', 'VM.GuestAgent.Unrestricted'),
    handle: readFile,
  },
  {
    method: 'POST',
    path: '/nodes/{node}/qemu/{vmid}/agent/file-write',
    op: 'qemu.agent.file-write',
    kind: 'agent',
    params: {
      content: { type: 'string', maxLength: CONTENT_CHARACTERS },
      encode: OPTIONAL_FLAG,
      file: TEXT,
    },
    permit: permitAgent('VM.GuestAgent.FileWrite', 'VM.GuestAgent.Unrestricted'),
    handle: writeFile,
  },
];

/** Bytes are shown as the characters of their numbers, whatever they mean. A read that ends with the file has not met its end yet. */
async function readFile(call: PveCall): Promise<Handled> {
  const { params } = call;
  const path = params.need('file');
  const bytes = contentOf(await ready(call, 'file-open'), path);
  const [offset, count] = [params.number('offset') ?? 0, params.number('count') ?? LIMIT_BYTES];
  const read = bytes.subarray(offset, offset + count);
  return {
    data: {
      content: read.toString((params.flag('decode') ?? true) ? 'latin1' : 'base64'),
      'bytes-read': read.length,
      ...(read.length === count ? { truncated: 1 } : {}),
    },
  };
}

function contentOf(guest: WorldGuest, path: string): Buffer {
  const content = guest.files.get(path);
  if (content === undefined)
    throw agentError(`failed to open file '${path}' (mode: 'r'): No such file or directory`);
  return Buffer.from(content, 'base64');
}

/** The whole file is replaced. */
async function writeFile(call: PveCall): Promise<Handled> {
  const { pve, node, vmid, params } = call;
  guestOn(pve, node, vmid);
  const content = params.need('content');
  const isPlain = params.flag('encode') ?? true;
  // Perl encodes bytes, and a character beyond them is none.
  if (isPlain && /[^\0-\xff]/u.test(content)) throw failure('Wide character in subroutine entry');
  const { files } = await ready(call, 'file-open');
  if (!isPlain && !/^[A-Za-z0-9+/=\n]*$/.test(content))
    throw agentError(`Base64 data '${content}' contains invalid characters`);
  files.set(params.need('file'), isPlain ? Buffer.from(content, 'latin1').toString('base64') : content);
  return { data: null };
}
