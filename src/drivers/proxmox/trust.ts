import { readFileSync } from 'node:fs';
import tls from 'node:tls';
import type { Trust } from '../../core/definitions.js';
import { HatcheryError } from '../../core/errors.js';

/** How one endpoint is trusted: options of the handshake, and the check that runs on the finished handshake before any byte of HTTP. */
export interface EndpointTrust {
  readonly options: Pick<tls.ConnectionOptions, 'ca' | 'rejectUnauthorized'>;
  /** Throws when the peer is not the pinned one. */
  readonly verify: (socket: tls.TLSSocket) => void;
}

const trustedByChain = (): void => {};

/**
 * Trust of one endpoint, from a cluster definition.
 * With fingerprints the chain is not looked at, because the pin says more: the certificate itself must be the one a person read on the node.
 * Errors: `settings-invalid` when the CA file cannot be read.
 */
export function endpointTrust(trust: Trust, endpoint: URL): EndpointTrust {
  if ('system' in trust) return { options: { rejectUnauthorized: true }, verify: trustedByChain };
  if ('caFile' in trust)
    return { options: { rejectUnauthorized: true, ca: readCa(trust.caFile) }, verify: trustedByChain };
  const pins = pinsOf(trust, endpoint);
  return { options: { rejectUnauthorized: false }, verify: (socket) => checkPin(socket, pins) };
}

/** A pin under the endpoint's own host name counts alone; under node names any of the cluster's pins may be met. */
function pinsOf(
  trust: { fingerprint: string } | { fingerprints: Record<string, string> },
  endpoint: URL,
): readonly string[] {
  if ('fingerprint' in trust) return [trust.fingerprint];
  const own = trust.fingerprints[endpoint.host] ?? trust.fingerprints[endpoint.hostname];
  return own === undefined ? Object.values(trust.fingerprints) : [own];
}

function checkPin(socket: tls.TLSSocket, pins: readonly string[]): void {
  const shown = socket.getPeerCertificate().fingerprint256;
  if (shown !== undefined && pins.some((pin) => pin.toUpperCase() === shown.toUpperCase())) return;
  throw new Error(`the certificate has the fingerprint ${shown ?? 'of nobody'}, which is not the pinned one`);
}

function readCa(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw new HatcheryError(
      'settings-invalid',
      `Unable to read the CA file ${file}: ${(cause as Error).message}`,
      {
        hint: 'copy /etc/pve/pve-root-ca.pem from a node to that place',
        cause,
      },
    );
  }
}
