import { createHash, timingSafeEqual } from 'node:crypto';

/** A host key as a site pins it: `ssh-ed25519 AAAA...`, one line of `/etc/ssh/ssh_host_*_key.pub`. */
export interface PinnedHostKey {
  /** What the server is asked to prove itself with, e.g. `ssh-ed25519`. */
  readonly algorithms: readonly string[];
  /** As ssh-keygen -l prints it: `SHA256:...`. */
  readonly fingerprint: string;
  isSame(presented: Buffer): boolean;
}

export function pinnedHostKey(line: string): PinnedHostKey {
  const [type = '', base64 = ''] = line.trim().split(/\s+/);
  const key = Buffer.from(base64, 'base64');
  return {
    // A server signs with SHA-2 whatever kind of RSA key it has.
    algorithms: type === 'ssh-rsa' ? ['rsa-sha2-512', 'rsa-sha2-256'] : [type],
    fingerprint: fingerprintOf(key),
    isSame: (presented) => presented.length === key.length && timingSafeEqual(presented, key),
  };
}

export function fingerprintOf(key: Buffer): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`;
}
