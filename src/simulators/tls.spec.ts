import { X509Certificate } from 'node:crypto';
import { createServer, get } from 'node:https';
import type { AddressInfo } from 'node:net';
import { describe, expect, it } from 'vitest';
import { certificateAuthority } from './tls.js';

describe('certificateAuthority', () => {
  it('issues a certificate that its authority signed, for the loopback names and the node', () => {
    const authority = certificateAuthority(new Map());
    const issued = authority.issue('pve1');
    const certificate = new X509Certificate(issued.certPem);
    const ca = new X509Certificate(authority.caPem);
    expect(ca.ca).toBe(true);
    expect(ca.verify(ca.publicKey)).toBe(true);
    expect(certificate.ca).toBe(false);
    expect(certificate.checkIssued(ca)).toBe(true);
    expect(certificate.verify(ca.publicKey)).toBe(true);
    expect(certificate.subjectAltName).toBe(
      'DNS:localhost, DNS:pve1, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1',
    );
    expect(issued.fingerprint).toMatch(/^([0-9A-F]{2}:){31}[0-9A-F]{2}$/);
  });

  it('gives the same certificate again from the same store', () => {
    const store = new Map<string, { keyPem: string; certPem: string }>();
    const first = certificateAuthority(store).issue('pve1');
    expect(certificateAuthority(store).issue('pve1')).toEqual(first);
  });

  it('is accepted by a client that trusts only this authority, and by no other', async () => {
    const authority = certificateAuthority(new Map());
    const { keyPem, certPem } = authority.issue('pve1');
    const server = createServer({ key: keyPem, cert: certPem }, (_, response) => response.end('hello'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const ask = (ca: string): Promise<string> =>
      new Promise((resolve, reject) => {
        get({ host: '127.0.0.1', port, ca, agent: false }, (response) => {
          response.setEncoding('utf8').on('data', resolve);
        }).on('error', reject);
      });
    await expect(ask(authority.caPem)).resolves.toBe('hello');
    await expect(ask(certificateAuthority(new Map()).caPem)).rejects.toThrow(/certificate/);
    server.close();
  });
});
