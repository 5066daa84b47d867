import { describe, expect, it } from 'vitest';
import { readSshKeys } from './cells.js';
import { readSshKey } from './ssh-key.js';

/** Made by ssh-keygen. */
const ED25519 = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDDewe8pIoe+RbGIYbzqkZ/7wbMYylZfVk+iRgAGnKUV';
const NISTP256 =
  'ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBBA6/2eDanqgk2vOYLe9muNcIJL/Q8ZBWiFPfiZij3DvTU8IAgKacU4HIeWg5tbOGHH6CxbLQjZaGDQ3AxsYJvU=';

/** A public key of the given fields, as OpenSSH encodes it. */
function aKey(type: string, ...fields: readonly (string | Buffer)[]): string {
  const encoded = [type, ...fields].map((field) => {
    const bytes = Buffer.from(field as string, 'latin1');
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return Buffer.concat([length, bytes]);
  });
  return `${type} ${Buffer.concat(encoded).toString('base64')}`;
}

const modulus = (bits: number): Buffer => Buffer.concat([Buffer.from([0]), Buffer.alloc(bits / 8, 0xff)]);
const aRsaKey = (bits: number): string => aKey('ssh-rsa', Buffer.from([1, 0, 1]), modulus(bits));

describe('a public key in a roster', () => {
  it.each([
    ED25519,
    NISTP256,
    aRsaKey(2048),
    aRsaKey(16_384),
    aKey('sk-ssh-ed25519@openssh.com', Buffer.alloc(32, 7), 'ssh:'),
    aKey('sk-ecdsa-sha2-nistp256@openssh.com', 'nistp256', Buffer.alloc(65, 4), 'ssh:'),
  ])('is taken as it is: %.40s', (line) => {
    expect(readSshKey(line)).toEqual({ line });
  });

  it('keeps a comment without anything that could mean more than a name', () => {
    expect(readSshKey(`${ED25519} ada lovelace@host`)).toEqual({ line: `${ED25519} ada-lovelace@host` });
    expect(readSshKey(`${ED25519} é: "x" $(id)`)).toEqual({ line: `${ED25519} -x-id-` });
    expect(readSshKey(`${ED25519} ${'a'.repeat(900)}`)).toEqual({ line: `${ED25519} ${'a'.repeat(64)}` });
  });

  it.each([
    ['options before the type', `command="id" ${ED25519}`],
    ['an unknown type', aKey('ssh-dss', 'a', 'b')],
    ['a name that every object has', 'constructor AAAA'],
    ['another type inside', ED25519.replace('ssh-ed25519', 'ssh-rsa')],
    ['a cut key', ED25519.slice(0, -8)],
    ['text behind the key', `${ED25519}!`],
    ['a short RSA key', aRsaKey(1024)],
    ['an RSA key of zeros', aKey('ssh-rsa', Buffer.from([1, 0, 1]), Buffer.alloc(257))],
    ['a short ed25519 key', aKey('ssh-ed25519', Buffer.alloc(31))],
    ['a curve that is not the type’s', aKey('ecdsa-sha2-nistp256', 'nistp384', Buffer.alloc(65))],
    ['fields beyond the type’s', aKey('ssh-ed25519', Buffer.alloc(32), 'more')],
    ['only a type', 'ssh-ed25519'],
  ])('is refused with %s', (_, text) => {
    expect(readSshKey(text)).toHaveProperty('why');
  });

  it('is never repeated in a message, least of all a private one', () => {
    const secret = 'b3BlbnNzaC1rZXktdjEAAAAA';
    const answer = readSshKeys(`-----BEGIN OPENSSH PRIVATE KEY----- ${secret}`);
    expect(answer).toMatchObject({ fault: { code: 'ssh-key-private' } });
    expect(JSON.stringify([answer, readSshKeys(`ssh-rsa ${secret}`)])).not.toContain(secret);
  });

  it('is one a cell, on one line', () => {
    expect(readSshKeys(`${ED25519}\n${NISTP256}`)).toMatchObject({ fault: { code: 'line-break' } });
    expect(readSshKeys('  ')).toEqual({ value: [] });
  });
});
