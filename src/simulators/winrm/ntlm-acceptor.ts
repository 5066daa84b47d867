import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { createRequire } from 'node:module';

// OpenSSL 3 has no MD4, and calling js-md4 directly would ask it; its `create` computes by itself. It brings no types.
interface Md4 {
  create(): { update(bytes: Uint8Array): { array(): number[] } };
}
const md4 = createRequire(import.meta.url)('js-md4') as Md4;
const md4Of = (bytes: Buffer): Buffer => Buffer.from(md4.create().update(bytes).array());

const SIGNATURE = Buffer.from('NTLMSSP\0', 'latin1');
const FLAGS = {
  unicode: 0x1,
  requestTarget: 0x4,
  sign: 0x10,
  seal: 0x20,
  ntlm: 0x200,
  alwaysSign: 0x8000,
  targetServer: 0x20000,
  extendedSecurity: 0x80000,
  targetInfo: 0x800000,
  version: 0x2000000,
  key128: 0x20000000,
  keyExchange: 0x40000000,
  key56: 0x80000000,
};
const AV = {
  end: 0,
  computer: 1,
  domain: 2,
  dnsComputer: 3,
  dnsDomain: 4,
  flags: 6,
  timestamp: 7,
  channelBindings: 10,
};
const MIC_PRESENT = 0x2;
const MIC_OFFSET = 72;

const utf16 = (text: string): Buffer => Buffer.from(text, 'utf16le');
const hmac = (key: Buffer, ...parts: Buffer[]): Buffer =>
  createHmac('md5', key).update(Buffer.concat(parts)).digest();

type NtlmVerdict = { ok: true; user: string } | { ok: false; why: string };

interface NtlmServer {
  readonly computer: string;
  readonly domain: string;
  /** DER of the server's certificate: channel bindings that a client sends must name it. */
  readonly certificate?: Buffer;
  passwordOf(user: string): string | undefined;
}

/** One handshake on one connection: `challenge` answers NEGOTIATE, `verify` judges AUTHENTICATE (NTLMv2 only). */
export class NtlmAcceptor {
  private negotiate: Buffer | undefined;
  private challengeMessage: Buffer | undefined;
  private readonly serverChallenge = randomBytes(8);

  constructor(private readonly server: NtlmServer) {}

  static typeOf(message: Buffer): number | undefined {
    return message.length >= 12 && message.subarray(0, 8).equals(SIGNATURE)
      ? message.readUInt32LE(8)
      : undefined;
  }

  challenge(negotiate: Buffer): Buffer {
    this.negotiate = negotiate;
    const asked = negotiate.length >= 16 ? negotiate.readUInt32LE(12) : 0;
    const mirrored =
      asked & (FLAGS.sign | FLAGS.seal | FLAGS.alwaysSign | FLAGS.key128 | FLAGS.keyExchange | FLAGS.key56);
    const flags =
      mirrored |
      FLAGS.unicode |
      FLAGS.requestTarget |
      FLAGS.ntlm |
      FLAGS.targetServer |
      FLAGS.extendedSecurity |
      FLAGS.targetInfo |
      FLAGS.version;
    const target = utf16(this.server.domain);
    const info = this.targetInfo();
    const head = Buffer.alloc(56);
    SIGNATURE.copy(head);
    head.writeUInt32LE(2, 8);
    writeField(head, 12, target.length, 56);
    head.writeUInt32LE(flags >>> 0, 20);
    this.serverChallenge.copy(head, 24);
    writeField(head, 40, info.length, 56 + target.length);
    Buffer.from([10, 0, 0x7c, 0x4f, 0, 0, 0, 15]).copy(head, 48); // Windows Server 2022, NTLM revision 15
    this.challengeMessage = Buffer.concat([head, target, info]);
    return this.challengeMessage;
  }

  verify(authenticate: Buffer): NtlmVerdict {
    if (this.negotiate === undefined || this.challengeMessage === undefined)
      return { ok: false, why: 'no challenge was sent' };
    if (authenticate.length < 64) return { ok: false, why: 'message is too short' };
    const response = readField(authenticate, 20);
    const domain = readField(authenticate, 28).toString('utf16le');
    const user = readField(authenticate, 36).toString('utf16le');
    const password = this.server.passwordOf(user);
    if (password === undefined) return { ok: false, why: 'unknown user' };
    if (response.length < 44) return { ok: false, why: 'not an NTLMv2 response' };

    const ntHash = md4Of(utf16(password));
    const responseKey = hmac(ntHash, utf16(user.toUpperCase() + domain));
    const proof = response.subarray(0, 16);
    const blob = response.subarray(16);
    if (!timingSafeEqual(hmac(responseKey, this.serverChallenge, blob), proof))
      return { ok: false, why: 'wrong password' };

    const pairs = readPairs(blob.subarray(28));
    if (
      ((pairs.get(AV.flags)?.readUInt32LE(0) ?? 0) & MIC_PRESENT) !== 0 &&
      !this.micIsRight(authenticate, hmac(responseKey, proof))
    )
      return { ok: false, why: 'wrong message integrity code' };
    const bindings = pairs.get(AV.channelBindings);
    if (
      bindings !== undefined &&
      bindings.some((byte) => byte !== 0) &&
      this.server.certificate !== undefined
    )
      if (!bindings.equals(channelBindings(this.server.certificate)))
        return { ok: false, why: 'wrong channel bindings' };
    return { ok: true, user };
  }

  private micIsRight(authenticate: Buffer, baseKey: Buffer): boolean {
    const flags = authenticate.readUInt32LE(60);
    const key = (flags & FLAGS.keyExchange) === 0 ? baseKey : rc4(baseKey, readField(authenticate, 52));
    const unsigned = Buffer.from(authenticate);
    unsigned.fill(0, MIC_OFFSET, MIC_OFFSET + 16);
    const expected = hmac(key, this.negotiate!, this.challengeMessage!, unsigned);
    return expected.equals(authenticate.subarray(MIC_OFFSET, MIC_OFFSET + 16));
  }

  private targetInfo(): Buffer {
    const { computer, domain } = this.server;
    const fileTime = Buffer.alloc(8);
    fileTime.writeBigUInt64LE(BigInt(Date.now()) * 10_000n + 116_444_736_000_000_000n);
    const dnsDomain = `${domain.toLowerCase()}.test`;
    return Buffer.concat([
      pair(AV.domain, utf16(domain)),
      pair(AV.computer, utf16(computer)),
      pair(AV.dnsDomain, utf16(dnsDomain)),
      pair(AV.dnsComputer, utf16(`${computer.toLowerCase()}.${dnsDomain}`)),
      pair(AV.timestamp, fileTime),
      pair(AV.end, Buffer.alloc(0)),
    ]);
  }
}

function writeField(message: Buffer, at: number, length: number, offset: number): void {
  message.writeUInt16LE(length, at);
  message.writeUInt16LE(length, at + 2);
  message.writeUInt32LE(offset, at + 4);
}

function readField(message: Buffer, at: number): Buffer {
  const offset = message.readUInt32LE(at + 4);
  return message.subarray(offset, offset + message.readUInt16LE(at));
}

function pair(id: number, value: Buffer): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt16LE(id, 0);
  head.writeUInt16LE(value.length, 2);
  return Buffer.concat([head, value]);
}

function readPairs(bytes: Buffer): Map<number, Buffer> {
  const pairs = new Map<number, Buffer>();
  for (let at = 0; at + 4 <= bytes.length;) {
    const id = bytes.readUInt16LE(at);
    const length = bytes.readUInt16LE(at + 2);
    if (id === AV.end) break;
    pairs.set(id, bytes.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return pairs;
}

/** MD5 over the gss_channel_bindings_struct with "tls-server-end-point:" + SHA-256 of the certificate (RFC 5929). */
function channelBindings(certificate: Buffer): Buffer {
  const data = Buffer.concat([
    Buffer.from('tls-server-end-point:', 'latin1'),
    createHash('sha256').update(certificate).digest(),
  ]);
  const head = Buffer.alloc(20);
  head.writeUInt32LE(data.length, 16);
  return createHash('md5').update(head).update(data).digest();
}

function rc4(key: Buffer, data: Buffer): Buffer {
  const state = Uint8Array.from({ length: 256 }, (_, index) => index);
  for (let i = 0, j = 0; i < 256; i++) {
    j = (j + state[i]! + key[i % key.length]!) & 255;
    [state[i], state[j]] = [state[j]!, state[i]!];
  }
  let i = 0;
  let j = 0;
  return Buffer.from(
    data.map((byte) => {
      i = (i + 1) & 255;
      j = (j + state[i]!) & 255;
      [state[i], state[j]] = [state[j]!, state[i]!];
      return byte ^ state[(state[i]! + state[j]!) & 255]!;
    }),
  );
}
