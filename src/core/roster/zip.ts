import { crc32, inflateRawSync } from 'node:zlib';

export interface ZipEntry {
  readonly path: string;
  readonly method: number;
  readonly isEncrypted: boolean;
  readonly packedBytes: number;
  readonly unpackedBytes: number;
  readonly headerAt: number;
}

/** Why a ZIP cannot be read; the text is for people. */
export class ZipFault extends Error {
  override readonly name = 'ZipFault';
}

export interface ZipLimits {
  readonly entries: number;
  readonly unpackedBytes: number;
}

const END = 0x06054b50;
const CENTRAL = 0x02014b50;
const LOCAL = 0x04034b50;

/**
 * Reads the central directory and refuses, before anything is unpacked, more entries or bytes than allowed.
 * Throws `ZipFault`. Not read: ZIP64, archives in several parts. Source: PKWARE APPNOTE 6.3, sections 4.3.12 and 4.3.16.
 */
export function listZip(bytes: Uint8Array, limits: ZipLimits): ZipEntry[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = findEnd(view);
  const count = view.getUint16(end + 10, true);
  let at = view.getUint32(end + 16, true);
  if (view.getUint16(end + 4, true) !== 0 || count === 0xffff || at === 0xffffffff) {
    throw new ZipFault('it is a ZIP64 archive or one in several parts');
  }
  if (count > limits.entries) throw new ZipFault(`it has ${count} parts; at most ${limits.entries} are read`);
  const entries: ZipEntry[] = [];
  let unpacked = 0;
  let packed = 0;
  for (let index = 0; index < count; index += 1) {
    if (at + 46 > bytes.length || view.getUint32(at, true) !== CENTRAL)
      throw new ZipFault('its directory is damaged');
    const nameLength = view.getUint16(at + 28, true);
    const entry: ZipEntry = {
      path: Buffer.from(bytes.subarray(at + 46, at + 46 + nameLength)).toString('utf8'),
      method: view.getUint16(at + 10, true),
      isEncrypted: (view.getUint16(at + 8, true) & 1) === 1,
      packedBytes: view.getUint32(at + 20, true),
      unpackedBytes: view.getUint32(at + 24, true),
      headerAt: view.getUint32(at + 42, true),
    };
    entries.push(entry);
    unpacked += entry.unpackedBytes;
    packed += entry.packedBytes;
    at += 46 + nameLength + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
  }
  if (unpacked > limits.unpackedBytes) {
    throw new ZipFault(`it unpacks to ${unpacked} bytes; at most ${limits.unpackedBytes} are read`);
  }
  if (packed > bytes.length) throw new ZipFault('its parts overlap');
  if (new Set(entries.map((entry) => entry.path)).size !== entries.length)
    throw new ZipFault('it has two parts of one name');
  return entries;
}

/** Unpacks one entry and never more bytes than its directory entry says. Throws `ZipFault`. */
export function unpackEntry(bytes: Uint8Array, entry: ZipEntry): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { headerAt } = entry;
  if (entry.isEncrypted) throw new ZipFault('it is protected by a password');
  if (headerAt + 30 > bytes.length || view.getUint32(headerAt, true) !== LOCAL)
    throw new ZipFault('a part is missing');
  const from = headerAt + 30 + view.getUint16(headerAt + 26, true) + view.getUint16(headerAt + 28, true);
  if (from + entry.packedBytes > bytes.length) throw new ZipFault('a part is cut off');
  const packed = bytes.subarray(from, from + entry.packedBytes);
  const unpacked = entry.method === 0 ? packed : inflate(packed, entry);
  if (unpacked.length !== entry.unpackedBytes)
    throw new ZipFault('a part has another size than the directory says');
  return unpacked;
}

function inflate(packed: Uint8Array, entry: ZipEntry): Uint8Array {
  if (entry.method !== 8) throw new ZipFault('a part is packed in an unknown way');
  try {
    return inflateRawSync(packed, { maxOutputLength: Math.max(1, entry.unpackedBytes) });
  } catch (error) {
    throw new ZipFault('a part is damaged or larger than the directory says', { cause: error });
  }
}

/** The end record stands at the very end, behind it only its comment of at most 64 KiB. */
function findEnd(view: DataView): number {
  const lowest = Math.max(0, view.byteLength - 22 - 0xffff);
  for (let at = view.byteLength - 22; at >= lowest; at -= 1) {
    if (view.getUint32(at, true) === END && at + 22 + view.getUint16(at + 20, true) === view.byteLength)
      return at;
  }
  throw new ZipFault('it is cut off or damaged');
}

/** A ZIP of the given parts, unpacked ("stored"). */
export function storeZip(parts: ReadonlyMap<string, Uint8Array>): Buffer {
  const bodies: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const [path, content] of parts) {
    const name = Buffer.from(path, 'utf8');
    const facts = Buffer.alloc(26);
    facts.writeUInt16LE(20, 0);
    facts.writeUInt32LE(crc32(content), 10);
    facts.writeUInt32LE(content.length, 14);
    facts.writeUInt32LE(content.length, 18);
    facts.writeUInt16LE(name.length, 22);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(at, 10);
    bodies.push(uint32(LOCAL), facts, name, Buffer.from(content));
    directory.push(uint32(CENTRAL), Buffer.from([20, 0]), facts, tail, name);
    at += 4 + facts.length + name.length + content.length;
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(parts.size, 4);
  end.writeUInt16LE(parts.size, 6);
  end.writeUInt32LE(central.length, 8);
  end.writeUInt32LE(at, 12);
  return Buffer.concat([...bodies, central, uint32(END), end]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
