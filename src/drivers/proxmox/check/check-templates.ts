import { HatcheryError } from '../../../core/errors.js';
import type { CheckFinding, GuestKind, IntendedBlueprint, TemplateInfo } from '../../../ports/hypervisor.js';
import { KINDS } from '../guest-kind.js';
import type { Templates } from '../templates.js';
import { bad, doubtful, good, guarded } from '../../findings.js';

/** One whose machines are clones. */
export type CloningBlueprint = IntendedBlueprint & {
  readonly source: Extract<IntendedBlueprint['source'], { clone: unknown }>;
};

/** What the blueprints clone, as far as it is there. */
export interface TemplateLook {
  readonly blueprint: CloningBlueprint;
  readonly template: TemplateInfo | undefined;
  readonly findings: readonly CheckFinding[];
}

export async function lookAtTemplates(
  templates: Templates,
  blueprints: readonly IntendedBlueprint[],
  signal: AbortSignal,
): Promise<readonly TemplateLook[]> {
  const pairs = blueprints.flatMap(({ source, ...blueprint }) =>
    'templates' in source
      ? source.templates.map((name) => ({ blueprint: { ...blueprint, source }, name }))
      : [],
  );
  const looks = await Promise.all(
    pairs.map(async ({ blueprint, name }): Promise<TemplateLook[]> => {
      const subject = `template ${name} of blueprint ${blueprint.name}`;
      let copies: readonly TemplateInfo[] = [];
      const findings = await guarded(subject, signal, async () => {
        try {
          copies = await templates.byNames(blueprint.kind, [name], signal);
        } catch (error) {
          if (!(error instanceof HatcheryError) || error.code !== 'not-found') throw error;
          const seen = error.hint ?? 'none';
          return [
            bad(
              subject,
              error.message,
              `make it (${KINDS[blueprint.kind].tool} template <VMID>), or name another one in the blueprint; ${seen}`,
            ),
          ];
        }
        return copies.flatMap((template) => findingsOf(subject, template, blueprint));
      });
      const [first, ...more] = copies;
      return [
        { blueprint, template: first, findings },
        ...more.map((template) => ({ blueprint, template, findings: [] })),
      ];
    }),
  );
  return looks.flat();
}

function findingsOf(subject: string, template: TemplateInfo, blueprint: CloningBlueprint): CheckFinding[] {
  const { vmid, node, disk, diskGiB, storage, digest, problems } = template;
  const at = `${vmid} on ${node}`;
  const found = problems.map((problem) =>
    bad(subject, `${at}: ${problem}`, remedyOf(problem, template, blueprint.kind)),
  );
  if (blueprint.diskGiB < diskGiB)
    found.push(
      bad(
        subject,
        `${at}: its disk has ${diskGiB} GiB, and the blueprint's size ${blueprint.diskGiB} GiB; disks do not shrink`,
        `write diskGiB: ${Math.ceil(diskGiB)} or more in the blueprint`,
      ),
    );
  if (found.length > 0) return found;
  const detail = `${at}, ${disk} of ${diskGiB} GiB on ${storage}, digest ${digest.slice(0, 12)}`;
  if (blueprint.source.clone === 'linked' && !template.storageShared)
    return [
      doubtful(
        subject,
        `${detail}; linked clones can live on ${node} only, because ${storage} is not shared`,
        'put the template on a shared storage, or write clone: full in the blueprint',
      ),
    ];
  return [good(subject, detail)];
}

function remedyOf(problem: string, { vmid, node }: TemplateInfo, kind: GuestKind): string {
  const { tool } = KINDS[kind];
  if (problem.includes('cloud-init'))
    return `on ${node}: qm set ${vmid} --ide2 <storage>:cloudinit (and no second one)`;
  if (problem.includes('agent')) return `on ${node}: qm set ${vmid} --agent 1`;
  if (problem.includes('locked'))
    return `wait for the job that holds it; if none runs, on ${node}: ${tool} unlock ${vmid}`;
  if (problem.includes('hook script'))
    return `on ${node}: ${tool} set ${vmid} --delete hookscript (lxc.hook lines: in its config file); or add it to hookScripts of the cluster's file after reading it`;
  return `mend it on ${node}, see: ${tool} config ${vmid}`;
}
