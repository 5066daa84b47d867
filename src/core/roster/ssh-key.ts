/** Key types that we pass on, with the number of fields of their public form and a check of its content. */
const TYPES: Readonly<Record<string, (fields: readonly Buffer[]) => boolean>> = {
  'ssh-ed25519': (fields) => fields.length === 2 && fields[1]?.length === 32,
  'ssh-rsa': (fields) => fields.length === 3 && rsaBits(fields[2]) >= 2048,
  'ecdsa-sha2-nistp256': isEcdsa,
  'ecdsa-sha2-nistp384': isEcdsa,
  'ecdsa-sha2-nistp521': isEcdsa,
  'sk-ssh-ed25519@openssh.com': (fields) => fields.length === 3 && fields[1]?.length === 32,
  'sk-ecdsa-sha2-nistp256@openssh.com': (fields) =>
    fields.length === 4 && fields[1]?.toString('latin1') === 'nistp256',
};

/**
 * Reads one OpenSSH public key line: `type base64 [comment]`, no options before the type.
 * Gives the line back in its plain form, the comment reduced to harmless characters; or why it is refused, without repeating it.
 * Source: RFC 4253 section 6.6 (length-prefixed fields, the first names the type), RFC 5656, RFC 8709, OpenSSH PROTOCOL.u2f.
 */
export function readSshKey(text: string): { readonly line: string } | { readonly why: string } {
  const [type = '', body = '', ...words] = text.split(/ +/);
  const isContentOk = Object.hasOwn(TYPES, type) ? TYPES[type] : undefined;
  if (!isContentOk) {
    return {
      why: 'The cell does not begin with a known key type (ssh-ed25519, ssh-rsa, ecdsa-sha2-nistp256 ...); options before the type are refused.',
    };
  }
  const bytes = Buffer.from(body, 'base64');
  if (body === '' || bytes.toString('base64') !== body)
    return { why: `The text after ${type} is not a complete key.` };
  const fields = splitFields(bytes);
  if (fields?.[0]?.toString('latin1') !== type)
    return { why: `The key is cut off, or is of another type than ${type}.` };
  if (!isContentOk(fields))
    return { why: `The key is not a usable ${type} key (RSA keys need at least 2,048 bits).` };
  const comment = words
    .join(' ')
    .replace(/[^A-Za-z0-9@._-]+/g, '-')
    .slice(0, 64);
  return { line: comment === '' ? `${type} ${body}` : `${type} ${body} ${comment}` };
}

/** The length-prefixed fields; `undefined` unless they fill the bytes exactly. */
function splitFields(bytes: Buffer): Buffer[] | undefined {
  const fields: Buffer[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (at + 4 > bytes.length || fields.length === 8) return undefined;
    const length = bytes.readUInt32BE(at);
    if (at + 4 + length > bytes.length) return undefined;
    fields.push(bytes.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return fields;
}

/** The type's name ends in the name of the curve, which is the second field. */
function isEcdsa(fields: readonly Buffer[]): boolean {
  const curve = fields[1]?.toString('latin1') ?? '';
  return fields.length === 3 && curve !== '' && fields[0]?.toString('latin1') === `ecdsa-sha2-${curve}`;
}

function rsaBits(modulus: Buffer | undefined): number {
  const start = modulus?.findIndex((byte) => byte !== 0) ?? -1;
  if (!modulus || start < 0) return 0;
  return (modulus.length - start) * 8 - Math.clz32(modulus[start] ?? 0) + 24;
}
