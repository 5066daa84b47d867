import { HatcheryError } from '../core/errors.js';
import { differsElsewhere, parseContainerFile, type ContainerFile } from '../core/lxc/container-file.js';
import { isOwnMark, parseMark, type MarkIdentity } from '../core/mark.js';
import type { Call } from '../ports/call.js';
import type { Hypervisor } from '../ports/hypervisor.js';
import type { ContainerAt, NodeFiles, RawLine } from '../ports/node-files.js';

/** The config file of a container of ours, on the node that has it now. */
export interface FoundContainer {
  readonly at: ContainerAt;
  readonly file: ContainerFile;
  readonly digest: string;
}

interface Reach {
  readonly files: NodeFiles;
  readonly hypervisor: Pick<Hypervisor, 'readOwn'>;
}

/**
 * Reads the config file where the container was last seen, and where the cluster says that it is now when it is not there.
 * The mark is read from the very text that a write must match. `undefined` = there is no such container any more.
 * Errors: `foreign-guest`, `outcome-unknown` (retry later), and those of the reads.
 */
export async function findContainer(
  { files, hypervisor }: Reach,
  identity: MarkIdentity & { readonly node?: string },
  node: string,
  call: Call,
): Promise<FoundContainer | undefined> {
  const { vmid } = identity;
  const here = await readOurs(files, identity, { node, vmid }, call);
  if (here !== undefined) return here;
  const own = await hypervisor.readOwn(identity, call);
  if (own.answer === 'none') return undefined;
  if (own.answer === 'foreign') throw foreign(vmid, own.why);
  if (own.answer === 'unknown') throw own.cause?.retry === 'later' ? own.cause : unknown(vmid, own.why);
  const there = await readOurs(files, identity, { node: own.guest.node, vmid }, call);
  if (there === undefined) throw unknown(vmid, `node ${own.guest.node} has no config of it`);
  return there;
}

async function readOurs(
  files: NodeFiles,
  identity: MarkIdentity,
  at: ContainerAt,
  call: Call,
): Promise<FoundContainer | undefined> {
  const found = await files.readContainerConfig(at, call);
  if (found === undefined) return undefined;
  const file = parseContainerFile(found.text);
  if (!isOwnMark(parseMark(file.description), identity))
    throw foreign(at.vmid, 'its description does not end in our mark');
  return { at, file, digest: found.digest };
}

/** Errors: as `NodeFiles.replaceRawLines`; `outcome-unknown` when the file reads back otherwise. */
export async function writeRawLines(
  files: NodeFiles,
  { at, file, digest }: FoundContainer,
  lines: readonly RawLine[],
  call: Call,
): Promise<ContainerFile> {
  const { text } = await files.replaceRawLines(at, { digest, lines }, call);
  const after = parseContainerFile(text);
  const isSame =
    after.rawLines.length === lines.length &&
    after.rawLines.every(([key, value], index) => key === lines[index]![0] && value === lines[index]![1]);
  const other = isSame ? differsElsewhere(file, after) : 'its raw lines';
  if (other === undefined) return after;
  throw new HatcheryError(
    'outcome-unknown',
    `Unable to tell what was written into the config of guest ${at.vmid}: ${other} not as it should be`,
    { retry: 'after-fix', hint: `Look at it on ${at.node}: pct config ${at.vmid}.` },
  );
}

const foreign = (vmid: number, why: string): HatcheryError =>
  new HatcheryError('foreign-guest', `Unable to write the config of guest ${vmid}: ${why}`, {
    retry: 'after-fix',
    facts: { vmid },
  });

const unknown = (vmid: number, why: string): HatcheryError =>
  new HatcheryError('outcome-unknown', `Unable to find the config of guest ${vmid}: ${why}`, {
    retry: 'later',
    afterMs: 2_000,
  });
