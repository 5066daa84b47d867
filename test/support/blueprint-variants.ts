import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PACKAGE_ROOT } from '../../src/app/config/package-root.js';
import type { SimulatedSite } from './simulated-site.js';

/** What the shipped blueprint says of cloud-init. */
export const CLOUD_INIT = 'cloudInit: { user: student, sshKeys: [roster, site] }';

/** The same with files of its own. */
export const withSnippets = (snippets: object): string =>
  CLOUD_INIT.replace(' }', `, snippets: ${JSON.stringify(snippets)} }`);

/** Adds to a site's folder the shipped blueprint under another name, with these texts of it and of its workflow replaced. */
export async function addBlueprint(
  site: SimulatedSite,
  name: string,
  change: {
    readonly blueprint?: readonly [string, string];
    readonly workflow?: readonly [string, string];
  },
): Promise<void> {
  const workflow = change.workflow === undefined ? 'student-vm' : `${name}-vm`;
  await write(site, 'blueprints', 'student-desktop', name, [
    ['name: student-desktop', `name: ${name}`],
    ['workflow: student-vm', `workflow: ${workflow}`],
    ...(change.blueprint === undefined ? [] : [change.blueprint]),
  ]);
  if (change.workflow !== undefined)
    await write(site, 'workflows', 'student-vm', workflow, [
      ['id: student-vm', `id: ${workflow}`],
      change.workflow,
    ]);
}

async function write(
  site: SimulatedSite,
  folder: string,
  from: string,
  to: string,
  changes: readonly (readonly [string, string])[],
): Promise<void> {
  let text = await readFile(join(PACKAGE_ROOT, folder, `${from}.yaml`), 'utf8');
  for (const [old, replacement] of changes) {
    if (!text.includes(old)) throw new Error(`${folder}/${from}.yaml has no "${old}"`);
    text = text.replace(old, replacement);
  }
  await mkdir(join(site.configDir, folder), { recursive: true });
  await writeFile(join(site.configDir, folder, `${to}.yaml`), text);
}
