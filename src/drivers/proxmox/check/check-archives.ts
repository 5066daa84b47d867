import { HatcheryError } from '../../../core/errors.js';
import type { ArchiveInfo, CheckFinding, IntendedBlueprint } from '../../../ports/hypervisor.js';
import type { Archives } from '../archives.js';
import { bad, doubtful, good, guarded, listed } from '../../findings.js';

/** One whose machines are unpacked. */
type UnpackingBlueprint = IntendedBlueprint & {
  readonly source: Extract<IntendedBlueprint['source'], { archive: string }>;
};

/** What the blueprints unpack, as far as it is there. */
export interface ArchiveLook {
  readonly blueprint: UnpackingBlueprint;
  readonly copies: readonly ArchiveInfo[];
  readonly findings: readonly CheckFinding[];
}

/** `nodes`: those that are up. */
export function lookAtArchives(
  archives: Archives,
  blueprints: readonly IntendedBlueprint[],
  nodes: readonly string[],
  signal: AbortSignal,
): Promise<readonly ArchiveLook[]> {
  const unpacking = blueprints.flatMap(({ source, ...blueprint }) =>
    'archive' in source ? [{ ...blueprint, source }] : [],
  );
  return Promise.all(
    unpacking.map(async (blueprint): Promise<ArchiveLook> => {
      const { archive } = blueprint.source;
      const subject = `archive ${archive} of blueprint ${blueprint.name}`;
      let copies: readonly ArchiveInfo[] = [];
      const findings = await guarded(subject, signal, async () => {
        try {
          copies = await archives.named(archive, signal);
        } catch (error) {
          if (!(error instanceof HatcheryError) || error.code !== 'not-found') throw error;
          return [bad(subject, error.message, error.hint ?? 'put it on each node')];
        }
        return [findingOf(subject, copies, nodes)];
      });
      return { blueprint, copies, findings };
    }),
  );
}

function findingOf(subject: string, copies: readonly ArchiveInfo[], nodes: readonly string[]): CheckFinding {
  const { volume } = copies[0]!;
  const without = nodes.filter((node) => !copies.some((copy) => copy.node === node));
  if (without.length === 0) return good(subject, `${volume} on ${listed(nodes)}`);
  const file = volume.slice(volume.indexOf('/') + 1);
  return doubtful(
    subject,
    `${volume} is not on ${listed(without)}, which get no machines of this blueprint`,
    `on each of them: pveam update && pveam download ${volume.slice(0, volume.indexOf(':'))} ${file}`,
  );
}
