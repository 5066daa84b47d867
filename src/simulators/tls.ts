import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  randomBytes,
  sign,
  X509Certificate,
  type KeyObject,
} from 'node:crypto';

/** One server's key and certificate, signed by the world's authority. */
export interface Certificate {
  readonly keyPem: string;
  readonly certPem: string;
  /** SHA-256, 32 pairs of hex digits with colons. */
  readonly fingerprint: string;
}

export interface CertificateAuthority {
  readonly caPem: string;
  /** The certificate of `name` (made at the first call) for 127.0.0.1, ::1, localhost and `name`. */
  issue(name: string): Certificate;
}

type Store = Map<string, { keyPem: string; certPem: string }>;

const DAY_MS = 86_400_000;

/**
 * The certificate authority of a simulated world: EC P-256, ecdsa-with-SHA256, made at start because Node can read certificates but not make them.
 * `store` keeps keys and certificates, so that a world that is loaded again shows the same ones.
 */
export function certificateAuthority(
  store: Store,
  organisation = 'Proxmox Virtual Environment',
): CertificateAuthority {
  const ca = store.get('ca') ?? makeCa(organisation);
  store.set('ca', ca);
  const caKey = createPrivateKey(ca.keyPem);
  const issuerName = name(organisation, 'Simulated Cluster Manager CA');
  return {
    caPem: ca.certPem,
    issue(host) {
      let entry = store.get(host);
      if (!entry) {
        const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
        const certPem = certificate({
          subject: name(organisation, host),
          issuer: issuerName,
          publicKey,
          signer: caKey,
          extensions: [
            extension('551d13', true, sequence()),
            extension('551d0f', true, der(0x03, Buffer.from([7, 0x80]))),
            extension('551d25', false, sequence(oid('2b06010505070301'))),
            extension('551d0e', false, der(0x04, keyId(publicKey))),
            extension('551d23', false, sequence(der(0x80, keyId(createPublicKey(caKey))))),
            extension('551d11', false, sequence(...alternativeNames(host))),
          ],
        });
        entry = { keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), certPem };
        store.set(host, entry);
      }
      return { ...entry, fingerprint: new X509Certificate(entry.certPem).fingerprint256 };
    },
  };
}

function makeCa(organisation: string): { keyPem: string; certPem: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const subject = name(organisation, 'Simulated Cluster Manager CA');
  const certPem = certificate({
    subject,
    issuer: subject,
    publicKey,
    signer: privateKey,
    extensions: [
      extension('551d13', true, sequence(der(0x01, Buffer.from([0xff])))),
      extension('551d0f', true, der(0x03, Buffer.from([1, 0x06]))),
      extension('551d0e', false, der(0x04, keyId(publicKey))),
    ],
  });
  return { keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), certPem };
}

interface CertificateParts {
  readonly subject: Buffer;
  readonly issuer: Buffer;
  readonly publicKey: KeyObject;
  readonly signer: KeyObject;
  readonly extensions: readonly Buffer[];
}

function certificate(parts: CertificateParts): string {
  const ecdsaWithSha256 = sequence(oid('2a8648ce3d040302'));
  const serial = randomBytes(16);
  serial[0] = (serial[0]! & 0x7f) | 0x40;
  const now = Date.now();
  const toBeSigned = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, serial),
    ecdsaWithSha256,
    parts.issuer,
    sequence(utcTime(now - DAY_MS), utcTime(now + 700 * DAY_MS)),
    parts.subject,
    parts.publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...parts.extensions)),
  );
  const signature = sign('sha256', toBeSigned, parts.signer);
  const whole = sequence(
    toBeSigned,
    ecdsaWithSha256,
    der(0x03, Buffer.concat([Buffer.from([0]), signature])),
  );
  const base64 = whole.toString('base64').replace(/.{64}(?=.)/g, '$&\n');
  return `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`;
}

function der(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const size =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}

function sequence(...items: Buffer[]): Buffer {
  return der(0x30, Buffer.concat(items));
}

/** An object identifier given by its encoded bytes. */
function oid(hex: string): Buffer {
  return der(0x06, Buffer.from(hex, 'hex'));
}

function name(organisation: string, commonName: string): Buffer {
  const attribute = (type: string, value: string): Buffer =>
    der(0x31, sequence(oid(type), der(0x0c, Buffer.from(value, 'utf8'))));
  return sequence(attribute('55040a', organisation), attribute('550403', commonName));
}

function utcTime(ms: number): Buffer {
  const digits = new Date(ms).toISOString().replace(/[-:T]/g, '').slice(2, 14);
  return der(0x17, Buffer.from(`${digits}Z`, 'ascii'));
}

function extension(type: string, critical: boolean, value: Buffer): Buffer {
  const flag = critical ? [der(0x01, Buffer.from([0xff]))] : [];
  return sequence(oid(type), ...flag, der(0x04, value));
}

function keyId(key: KeyObject): Buffer {
  return createHash('sha1')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest();
}

function alternativeNames(host: string): Buffer[] {
  const dns = ['localhost', host].map((text) => der(0x82, Buffer.from(text, 'ascii')));
  const loopback6 = Buffer.alloc(16);
  loopback6[15] = 1;
  return [...dns, der(0x87, Buffer.from([127, 0, 0, 1])), der(0x87, loopback6)];
}
