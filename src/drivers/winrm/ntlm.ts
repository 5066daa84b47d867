import md4 from 'js-md4';
import { createHash, createHmac } from 'node:crypto';

/** NTLMv2 sign-in of a connection without signing or sealing: the TLS below does both. Source: MS-NLMP 2.2.1, 3.1.5, 3.3.2. */

const SIGNATURE = Buffer.from('NTLMSSP\0', 'latin1');
const FLAGS =
  0x0000_0001 | // unicode
  0x0000_0004 | // request target
  0x0000_0200 | // ntlm
  0x0000_8000 | // always sign
  0x0008_0000 | // extended session security
  0x0080_0000 | // target info
  0x0200_0000 | // version
  0x2000_0000 | // 128 bits
  0x8000_0000; // 56 bits
const AV = { end: 0, flags: 6, timestamp: 7, channelBindings: 10 } as const;
const AV_FLAG_MIC = 0x2;
const VERSION = Buffer.from([10, 0, 0, 0, 0, 0, 0, 15]);
const HEAD_BYTES = 88;
const MIC_AT = 72;

export interface NtlmIdentity {
  readonly user: string;
  readonly domain: string;
  readonly password: string;
}

/** `DOMAIN\user` is split; `user@domain` stays whole, with an empty domain. */
export function ntlmIdentity(username: string, password: string): NtlmIdentity {
  const slash = username.indexOf('\\');
  return { domain: slash < 0 ? '' : username.slice(0, slash), user: username.slice(slash + 1), password };
}

export interface NtlmChallenge {
  readonly message: Buffer;
  readonly flags: number;
  readonly serverChallenge: Buffer;
  readonly targetInfo: Buffer;
}

/** The first message. */
export function negotiateMessage(): Buffer {
  const message = Buffer.alloc(40);
  SIGNATURE.copy(message);
  message.writeUInt32LE(1, 8);
  message.writeUInt32LE(FLAGS >>> 0, 12);
  VERSION.copy(message, 32);
  return message;
}

/** Reads the server's answer; `undefined` when it is not a challenge that carries target information. */
export function readChallenge(message: Buffer): NtlmChallenge | undefined {
  if (message.length < 48 || !message.subarray(0, 8).equals(SIGNATURE) || message.readUInt32LE(8) !== 2)
    return undefined;
  const length = message.readUInt16LE(40);
  const offset = message.readUInt32LE(44);
  if (offset + length > message.length) return undefined;
  return {
    message,
    flags: message.readUInt32LE(20),
    serverChallenge: message.subarray(24, 32),
    targetInfo: message.subarray(offset, offset + length),
  };
}

export interface NtlmV2Input extends NtlmIdentity {
  readonly serverChallenge: Buffer;
  readonly clientChallenge: Buffer;
  /** FILETIME, little endian. */
  readonly time: Buffer;
  readonly targetInfo: Buffer;
}

/** `ComputeResponse` of NTLMv2. */
export function ntlmV2Response(input: NtlmV2Input): { nt: Buffer; lm: Buffer; sessionBaseKey: Buffer } {
  const ntHash = Buffer.from(md4.arrayBuffer(utf16(input.password)));
  const responseKey = hmacMd5(ntHash, utf16(input.user.toUpperCase() + input.domain));
  const { serverChallenge, clientChallenge } = input;
  const zero = Buffer.alloc(8);
  const temp = Buffer.concat([
    Buffer.from([1, 1]),
    zero.subarray(0, 6),
    input.time,
    clientChallenge,
    zero.subarray(0, 4),
    input.targetInfo,
    zero.subarray(0, 4),
  ]);
  const proof = hmacMd5(responseKey, serverChallenge, temp);
  return {
    nt: Buffer.concat([proof, temp]),
    lm: Buffer.concat([hmacMd5(responseKey, serverChallenge, clientChallenge), clientChallenge]),
    sessionBaseKey: hmacMd5(responseKey, proof),
  };
}

export interface AuthenticateInput {
  readonly identity: NtlmIdentity;
  readonly negotiate: Buffer;
  readonly challenge: NtlmChallenge;
  readonly clientChallenge: Buffer;
  /** Used only when the server sends no time. */
  readonly wallMs: number;
  /** Of the TLS below; see `channelBindings`. */
  readonly bindings: Buffer | undefined;
}

/** The last message. With a time in the challenge it carries a message integrity code over all three, as Windows asks since 2008 R2. */
export function authenticateMessage(input: AuthenticateInput): Buffer {
  const { identity, challenge, clientChallenge } = input;
  const pairs = readPairs(challenge.targetInfo);
  const serverTime = pairs.get(AV.timestamp);
  if (serverTime !== undefined) {
    const flags = Buffer.alloc(4);
    flags.writeUInt32LE((pairs.get(AV.flags)?.readUInt32LE(0) ?? 0) | AV_FLAG_MIC);
    pairs.set(AV.flags, flags);
  }
  if (input.bindings !== undefined) pairs.set(AV.channelBindings, input.bindings);
  const { nt, lm, sessionBaseKey } = ntlmV2Response({
    ...identity,
    serverChallenge: challenge.serverChallenge,
    clientChallenge,
    time: serverTime ?? fileTime(input.wallMs),
    targetInfo: writePairs(pairs),
  });
  const head = Buffer.alloc(HEAD_BYTES);
  SIGNATURE.copy(head);
  head.writeUInt32LE(3, 8);
  const fields = [
    [12, serverTime === undefined ? lm : Buffer.alloc(24)],
    [20, nt],
    [28, utf16(identity.domain)],
    [36, utf16(identity.user)],
    [44, Buffer.alloc(0)], // workstation
    [52, Buffer.alloc(0)], // session key: no key exchange
  ] as const;
  let offset = HEAD_BYTES;
  for (const [at, value] of fields) {
    head.writeUInt16LE(value.length, at);
    head.writeUInt16LE(value.length, at + 2);
    head.writeUInt32LE(offset, at + 4);
    offset += value.length;
  }
  head.writeUInt32LE((challenge.flags & FLAGS) >>> 0, 60);
  VERSION.copy(head, 64);
  const message = Buffer.concat([head, ...fields.map(([, value]) => value)]);
  if (serverTime !== undefined)
    hmacMd5(sessionBaseKey, input.negotiate, challenge.message, message).copy(message, MIC_AT);
  return message;
}

/** MD5 of the GSS structure around `tls-server-end-point:` and the hash of the server's certificate (RFC 5929, MS-NLMP MsvAvChannelBindings). */
export function channelBindings(certificateDer: Buffer): Buffer {
  const hash = createHash(endPointHash(certificateDer)).update(certificateDer).digest();
  const data = Buffer.concat([Buffer.from('tls-server-end-point:', 'latin1'), hash]);
  const head = Buffer.alloc(20);
  head.writeUInt32LE(data.length, 16);
  return createHash('md5').update(head).update(data).digest();
}

/** RFC 5929: the hash of the certificate's own signature, SHA-256 in place of MD5 and SHA-1. */
function endPointHash(der: Buffer): 'sha256' | 'sha384' | 'sha512' {
  const tbs = element(der, element(der, 0).from);
  const algorithm = element(der, element(der, tbs.to).from);
  const oid = der.subarray(algorithm.from, algorithm.to).toString('hex');
  if (oid === '2a864886f70d01010c' || oid === '2a8648ce3d040303') return 'sha384';
  if (oid === '2a864886f70d01010d' || oid === '2a8648ce3d040304') return 'sha512';
  return 'sha256';
}

/** Where the content of the DER element at `at` begins and ends. */
function element(der: Buffer, at: number): { from: number; to: number } {
  const short = der[at + 1] ?? 0;
  const lengthBytes = short < 0x80 ? 0 : short & 0x7f;
  const length = lengthBytes === 0 ? short : der.readUIntBE(at + 2, lengthBytes);
  const from = at + 2 + lengthBytes;
  return { from, to: from + length };
}

function readPairs(bytes: Buffer): Map<number, Buffer> {
  const pairs = new Map<number, Buffer>();
  for (let at = 0; at + 4 <= bytes.length && bytes.readUInt16LE(at) !== AV.end;) {
    const length = bytes.readUInt16LE(at + 2);
    pairs.set(bytes.readUInt16LE(at), bytes.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return pairs;
}

function writePairs(pairs: ReadonlyMap<number, Buffer>): Buffer {
  const parts = [...pairs, [AV.end, Buffer.alloc(0)] as const].map(([id, value]) => {
    const head = Buffer.alloc(4);
    head.writeUInt16LE(id, 0);
    head.writeUInt16LE(value.length, 2);
    return Buffer.concat([head, value]);
  });
  return Buffer.concat(parts);
}

function fileTime(wallMs: number): Buffer {
  const time = Buffer.alloc(8);
  time.writeBigUInt64LE(BigInt(Math.trunc(wallMs)) * 10_000n + 116_444_736_000_000_000n);
  return time;
}

const utf16 = (text: string): Buffer => Buffer.from(text, 'utf16le');
const hmacMd5 = (key: Buffer, ...parts: Buffer[]): Buffer =>
  createHmac('md5', key).update(Buffer.concat(parts)).digest();
