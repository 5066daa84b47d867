import type { IntendedUse } from '../../../ports/hypervisor.js';

/** One right: any of `privileges` on any of `paths`, and who needs it. */
export interface NeededRight {
  readonly privileges: readonly string[];
  readonly path: string;
  readonly role: string;
  /** Steps as `workflow/step`. */
  readonly neededBy: readonly string[];
}

type Place = 'cluster' | 'guests' | 'own' | 'template' | 'archive' | 'storage' | 'bridge';
type Need = readonly [place: Place, ...privileges: string[]];

/** Reading the cluster, without which no step begins. */
const READS: readonly Need[] = [
  ['cluster', 'Sys.Audit'],
  ['guests', 'VM.Audit'],
  ['own', 'Pool.Audit'],
];
/** The undo of a clone: deleting mark, stop, destroy. */
const DESTROYS: readonly Need[] = [
  ['own', 'VM.Config.Options'],
  ['own', 'VM.PowerMgmt'],
  ['own', 'VM.Allocate'],
];

const CLONES: readonly Need[] = [
  ...READS,
  ['template', 'VM.Clone'],
  ['own', 'VM.Allocate'],
  ['storage', 'Datastore.AllocateSpace'],
  ['bridge', 'SDN.Use'],
  ...DESTROYS,
];
function configures(...keys: readonly string[]): Need[] {
  return keys.map((key): Need => ['own', `VM.Config.${key}`]);
}

/** What the calls of each step ask for on the cluster. A step that is not here calls another system. */
const STEP_NEEDS: Readonly<Record<string, readonly Need[]>> = {
  'reserve-vmid': READS,
  'clone-template': CLONES,
  'configure-vm': [...configures('CPU', 'Memory', 'Network', 'Cloudinit', 'Options'), ['bridge', 'SDN.Use']],
  'clone-container': CLONES,
  'configure-container': [...configures('CPU', 'Memory', 'Network'), ['bridge', 'SDN.Use']],
  'create-container': [
    ...READS,
    ...configures('CPU', 'Memory', 'Network', 'Options', 'Disk'),
    ['own', 'VM.Allocate'],
    ['archive', 'Datastore.Audit', 'Datastore.AllocateSpace'],
    ['storage', 'Datastore.AllocateSpace'],
    ['bridge', 'SDN.Use'],
    ...DESTROYS,
  ],
  'start-container': [['own', 'VM.PowerMgmt']],
  'resize-disk': [
    ['own', 'VM.Config.Disk'],
    ['storage', 'Datastore.AllocateSpace'],
  ],
  'start-vm': [['own', 'VM.PowerMgmt']],
  'wait-address': [['own', 'VM.GuestAgent.Audit', 'VM.GuestAgent.Unrestricted']],
};
/** The token of a guest that phones home is written as its serial number. */
const PHONE_HOME: Need = ['own', 'VM.Config.HWType'];
/** Until version 8. */
const OLD_AGENT: Need = ['own', 'VM.Monitor'];

/** Role names as the documentation uses them. */
const ROLES: Readonly<Record<Place, string>> = {
  cluster: 'HatcherySys',
  guests: 'HatcheryRead',
  own: 'HatcheryPool',
  template: 'HatcheryTemplate',
  archive: 'HatcheryStorage',
  storage: 'HatcheryStorage',
  bridge: 'HatcheryBridge',
};

export interface Places {
  readonly pool: string;
  /** VMIDs and storages that the blueprints of a workflow use; unknown ones are left out. */
  readonly templates: (workflow: string) => readonly number[];
  readonly storages: (workflow: string) => readonly string[];
  /** Storages that hold their archives. */
  readonly archives: (workflow: string) => readonly string[];
}

/** Every right that the workflows of a site need on one cluster, each once. Pure. */
export function neededRights(use: IntendedUse, places: Places, major: number): NeededRight[] {
  const found = new Map<string, { right: Omit<NeededRight, 'neededBy'>; by: Set<string> }>();
  for (const workflow of use.workflows)
    for (const { key, uses } of workflow.steps)
      for (const need of [
        ...(STEP_NEEDS[uses] ?? []),
        ...(uses === 'configure-vm' && use.phonesHome ? [PHONE_HOME] : []),
      ]) {
        const isAgent = need[1] === 'VM.GuestAgent.Audit';
        if (isAgent && !agentIsAsked(workflow.id, use)) continue;
        const [place, ...privileges] = isAgent && major < 9 ? OLD_AGENT : need;
        for (const path of pathsOf(place, workflow.id, use, places)) {
          const id = `${path} ${privileges.join('|')}`;
          const entry = found.get(id) ?? { right: { privileges, path, role: ROLES[place] }, by: new Set() };
          entry.by.add(`${workflow.id}/${key}`);
          found.set(id, entry);
        }
      }
  return [...found.values()].map(({ right, by }) => ({ ...right, neededBy: [...by] }));
}

/** The node itself tells the address of a container. */
const agentIsAsked = (id: string, { blueprints }: IntendedUse): boolean =>
  blueprints.some(({ workflow, kind }) => workflow === id && kind === 'qemu');

function pathsOf(place: Place, workflow: string, use: IntendedUse, places: Places): string[] {
  switch (place) {
    case 'cluster':
      return ['/'];
    case 'guests':
      return ['/vms'];
    case 'own':
      return [`/pool/${places.pool}`];
    case 'template':
      return places.templates(workflow).map((vmid) => `/vms/${vmid}`);
    case 'storage':
      return places.storages(workflow).map((storage) => `/storage/${storage}`);
    case 'archive':
      return places.archives(workflow).map((storage) => `/storage/${storage}`);
    case 'bridge':
      return use.blueprints
        .filter((blueprint) => blueprint.workflow === workflow)
        .map(({ bridge, vlan }) => bridgePath(bridge, vlan));
  }
}

/** A plain bridge is a vnet of the zone `localnetwork`; with a tag the right on the tag is asked for. */
function bridgePath(bridge: string, vlan: number | undefined): string {
  return `/sdn/zones/localnetwork/${bridge}${vlan === undefined ? '' : `/${vlan}`}`;
}
