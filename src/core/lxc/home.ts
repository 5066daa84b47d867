import { HatcheryError } from '../errors.js';
import { isPlainPath, type HostMount } from './raw-lines.js';

/** Where a person's home lies on the node, and where the container shows it. */
export interface Home {
  /** Folder of the node under which the homes lie, one level deep; the site's administrator names it. */
  readonly root: string;
  /** Name of the one folder below `root`: the owner's. */
  readonly folder: string;
  /** Absolute path in the container. */
  readonly at: string;
  readonly readOnly: boolean;
}

/** What a node says of a path: without any link in it, and where its file system is mounted. */
export interface ResolvedPath {
  readonly path: string;
  readonly isDirectory: boolean;
  readonly mount: string;
}

/**
 * The bind mount of a home. It begins at `resolved`, what the node made of the path: `root` itself may be a link that the administrator made,
 * but below it nothing may be one, or a person could show somebody else's files in a container.
 * Errors: `remote-refused` when the home is missing, no folder, elsewhere, or its share is not mounted.
 */
export function homeMount(
  home: Home,
  root: ResolvedPath | undefined,
  resolved: ResolvedPath | undefined,
): HostMount {
  const path = homePath(home);
  if (root === undefined) throw refused(path, `${home.root} is missing on the node`);
  // An empty folder that waits for its share would be filled with homes that nobody backs up.
  if (root.mount === '/') throw refused(path, `nothing is mounted at ${home.root} on the node`);
  if (resolved === undefined) throw refused(path, 'it is missing on the node');
  if (!resolved.isDirectory) throw refused(path, 'it is no folder');
  if (resolved.path !== `${root.path}/${home.folder}`) throw refused(path, `it leads to ${resolved.path}`);
  return { source: resolved.path, target: home.at, kind: 'dir', readOnly: home.readOnly, optional: false };
}

/** The path to ask the node for. Errors: `request-invalid` for a name that is no folder's. */
export function homePath({ root, folder }: Pick<Home, 'root' | 'folder'>): string {
  const path = `${root}/${folder}`;
  if (isPlainPath(path) && !folder.includes('/')) return path;
  throw new HatcheryError(
    'request-invalid',
    `Unable to mount the home ${JSON.stringify(folder.slice(0, 100))}: it is no name of a folder below ${root}`,
    {
      hint: 'A login whose home is mounted has letters without accents, digits, dots, hyphens and underscores.',
    },
  );
}

const refused = (path: string, why: string): HatcheryError =>
  new HatcheryError('remote-refused', `Unable to mount the home ${path}: ${why}`, {
    retry: 'after-fix',
    hint: 'Make the folder, or mount its share, on every node that may run the container.',
  });
