import { failure } from './wire.js';

/** Keys of a virtual machine come encoded. */
export function checkEncodedSshKeys(encoded: string): void {
  checkSshKeys(decodeURIComponent(encoded));
}

/** Each key must be one that ssh-keygen can read. */
export function checkSshKeys(text: string): void {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  for (const line of lines) {
    const match =
      /^(ssh-rsa|ssh-dss|ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)|sk-[a-z0-9@.-]+) ([A-Za-z0-9+/]+={0,2})( .*)?$/.exec(
        line.trim(),
      );
    const type = match?.[1] ?? '';
    const blob = Buffer.from(match?.[2] ?? '', 'base64');
    const isWhole =
      blob.length > 4 + type.length &&
      blob.readUInt32BE(0) === type.length &&
      blob.toString('latin1', 4, 4 + type.length) === type;
    if (!match || !isWhole) throw failure('SSH public key validation error');
  }
}
