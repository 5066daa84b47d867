import { execFile } from 'node:child_process';
import { mkdir, rename, rm } from 'node:fs/promises';
import { basename, delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import {
  isRunnable,
  libraryFolders,
  unpackPackage,
  withDebianPackages,
} from '../../src/drivers/embedded/debian-packages.js';
import { claimFolder } from '../../src/drivers/embedded/folder-claim.js';

const run = promisify(execFile);

const PYTHON = '/usr/bin/python3';
const PLAYBOOK = 'usr/bin/ansible-playbook';
const MODULES = 'usr/lib/python3/dist-packages';
const PACKAGES = {
  what: 'proxmoxer and Ansible for the tests with foreign clients',
  names: [
    'python3',
    'python3-proxmoxer',
    'python3-requests',
    'python3-yaml',
    'python3-cryptography',
    'ansible',
    'ansible-core',
  ],
  usual: [
    'libyaml-0-2',
    'python3-certifi',
    'python3-cffi-backend',
    'python3-chardet',
    'python3-charset-normalizer',
    'python3-distutils',
    'python3-idna',
    'python3-jinja2',
    'python3-lib2to3',
    'python3-markupsafe',
    'python3-packaging',
    'python3-resolvelib',
    'python3-urllib3',
  ],
};
/** All of Ansible's collections are ten times as big as the one with the module and the one that prints JSON. */
const COLLECTIONS = ['community/general', 'ansible/posix'].map(
  (name) => `./${MODULES}/ansible_collections/${name}`,
);

/** Debian's python3-proxmoxer and Ansible, unpacked and not installed. */
export interface DebianClients {
  readonly python: string;
  /** What a call of `python` needs to find them; nothing of the caller's own environment. */
  readonly env: Readonly<Record<string, string>>;
  readonly ansiblePlaybook: string;
}

/** Fetches them into the state folder once; `{ missing }` says why they cannot be had here. */
export async function debianClients(
  stateFolder: string,
): Promise<DebianClients | { readonly missing: string }> {
  // A newer Python does not load modules that were compiled for an older one.
  const version = await run(PYTHON, ['-c', 'import sys; print("%d.%d" % sys.version_info[:2])']).then(
    ({ stdout }) => stdout.trim(),
    () => 'own',
  );
  const root = join(stateFolder, `foreign-clients-${version}`);
  const ansiblePlaybook = join(root, PLAYBOOK);
  if (!(await isRunnable(ansiblePlaybook))) {
    try {
      await fetchInto(stateFolder, root);
    } catch (error) {
      return { missing: (error instanceof Error ? error.message : String(error)).trim().split('\n').at(-1)! };
    }
  }
  return {
    python: version === 'own' ? join(root, PYTHON) : PYTHON,
    ansiblePlaybook,
    env: {
      PATH: ['/usr/local/bin', '/usr/bin', '/bin'].join(delimiter),
      PYTHONPATH: join(root, MODULES),
      LD_LIBRARY_PATH: await libraryFolders(root),
      LC_ALL: 'C.UTF-8',
    },
  };
}

/** One test file fetches, the others wait for it. */
async function fetchInto(stateFolder: string, root: string): Promise<void> {
  const draft = `${root}.new`;
  await mkdir(draft, { recursive: true });
  const release = await claimFolder(draft);
  if (!release) {
    await sleep(200);
    return (await isRunnable(join(root, PLAYBOOK))) ? undefined : fetchInto(stateFolder, root);
  }
  try {
    const log = (line: string): void => void process.stderr.write(`${line}\n`);
    await withDebianPackages(stateFolder, PACKAGES, log, async (files) => {
      for (const file of files)
        if (basename(file).startsWith('ansible_')) await unpackParts(file, draft, COLLECTIONS);
        else await unpackPackage(file, draft);
    });
    await release();
    await rename(draft, root);
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

async function unpackParts(file: string, root: string, paths: readonly string[]): Promise<void> {
  const script = 'set -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" "${@:3}"';
  await run('bash', ['-c', script, 'unpack', file, root, ...paths]);
}
