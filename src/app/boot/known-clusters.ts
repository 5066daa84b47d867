import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import pg from 'pg';
import type { ClusterDefinition } from '../../core/definitions.js';
import { HatcheryError } from '../../core/errors.js';

/**
 * Keeps what each cluster was at first contact, and refuses another one under the same name: its VMIDs would mean other guests.
 * A CA or certificate may be renewed as long as one of the pins is an old one.
 * Error: `settings-invalid`.
 */
export async function refuseChangedClusters(
  databaseUrl: string,
  clusters: readonly ClusterDefinition[],
): Promise<void> {
  if (clusters.length === 0) return;
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    for (const cluster of clusters) await meet(client, cluster);
  } finally {
    await client.end();
  }
}

async function meet(client: pg.Client, cluster: ClusterDefinition): Promise<void> {
  const pins = pinsOf(cluster);
  const values = [cluster.name, cluster.kind, pins.join(' '), JSON.stringify(withoutSecrets(cluster))];
  const { rows } = await client.query<{ trust_digest: string }>(
    `insert into clusters (name, kind, trust_digest, definition) values ($1, $2, $3, $4)
     on conflict (name) do update set seen_at = now() returning trust_digest`,
    values,
  );
  const known = rows[0]?.trust_digest ?? '';
  if (!pins.some((pin) => known.split(' ').includes(pin)))
    throw new HatcheryError(
      'settings-invalid',
      `Unable to use cluster ${cluster.name}: its CA or certificates are not those of the cluster that had this name before`,
      {
        retry: 'after-fix',
        hint: 'A rebuilt or different cluster needs a name of its own. A renewed CA is accepted when caFile holds the old and the new certificate once.',
      },
    );
  await client.query(
    'update clusters set trust_digest = $3, definition = $4 where name = $1 and kind = $2',
    values,
  );
}

function withoutSecrets({ token, account, ...cluster }: ClusterDefinition): unknown {
  return {
    ...cluster,
    ...(token && { token: { ...token, secret: undefined } }),
    ...(account && { account: { ...account, password: undefined } }),
  };
}

/** What a cluster is known by: digests of its CA certificates, or the pinned fingerprints. */
function pinsOf({ trust }: ClusterDefinition): string[] {
  if ('fingerprints' in trust) return Object.values(trust.fingerprints).map((pin) => pin.toUpperCase());
  if ('fingerprint' in trust) return [trust.fingerprint.toUpperCase()];
  if ('system' in trust) return ['system'];
  const certificates =
    readFileSync(trust.caFile, 'utf8').match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ??
    [];
  return certificates.map((certificate) =>
    createHash('sha256').update(certificate.replace(/\s/g, '')).digest('hex'),
  );
}
