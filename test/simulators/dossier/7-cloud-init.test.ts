import { expect } from 'vitest';
import type { WorldSpec } from '../../../src/simulators/build-world.js';
import { replayDossier, type DossierBench } from '../../support/dossier-table.js';

const GUEST = '/nodes/pve1/qemu/10500';
const put = (form: Record<string, string | number>) => ({ call: `PUT ${GUEST}/config`, form });
const cloned = (bench: DossierBench) => bench.clone();
const asked: WorldSpec = {
  storages: [
    { id: 'ceph', type: 'rbd', shared: true, sizeGiB: 1000 },
    { id: 'nas', type: 'nfs', shared: true, sizeGiB: 1000, content: ['snippets', 'iso'] },
  ],
  files: [{ volid: 'nas:snippets/user.yaml', text: '#cloud-config\nfinal: 1\n' }],
};

replayDossier('section 7: cloud-init', [
  {
    line: 222,
    says: 'the drive is a volume vm-<id>-cloudinit',
    given: cloned,
    send: `GET ${GUEST}/config`,
    expect: {
      data: expect.objectContaining({
        ide2: expect.stringMatching(/^ceph:vm-10500-cloudinit,media=cdrom/),
      }),
    },
  },
  {
    line: 222,
    says: 'all keys are taken',
    given: cloned,
    send: put({
      ciuser: 'ada',
      cipassword: 'hunter2',
      ipconfig0: 'ip=10.0.0.5/24,gw=10.0.0.1,ip6=auto',
      nameserver: '10.0.0.2',
      searchdomain: 'lab.example',
      ciupgrade: 0,
      citype: 'nocloud',
    }),
    expect: { data: null },
  },
  {
    line: 222,
    says: 'cipassword is hashed on set',
    given: cloned,
    send: put({ cipassword: 'hunter2' }),
    expect: {
      data: null,
      after: ({ simulator }) => expect(simulator.guest(10_500)!.config['cipassword']).toMatch(/^\$5\$/),
    },
  },
  {
    line: 222,
    says: 'a broken ipconfig',
    given: cloned,
    send: put({ ipconfig0: 'ip=nowhere' }),
    expect: { errors: { ipconfig0: expect.stringMatching(/^invalid format - /) } },
  },
  {
    line: 224,
    says: 'a missing snippet fails the start',
    world: asked,
    given: async (bench) => {
      await bench.clone();
      await bench.data(put({ cicustom: 'user=nas:snippets/gone.yaml' }));
    },
    send: `POST ${GUEST}/status/start`,
    expect: { exit: /gone\.yaml/ },
  },
  {
    line: 224,
    says: 'a custom part must be a snippet',
    world: { ...asked, files: [{ volid: 'nas:iso/user.yaml' }] },
    given: async (bench) => {
      await bench.clone();
      await bench.data(put({ cicustom: 'user=nas:iso/user.iso' }));
    },
    send: `POST ${GUEST}/status/start`,
    expect: { exit: /is not in the snippets directory/ },
  },
  {
    line: 229,
    says: 'VM.Config.Network is enough for the keys',
    world: {
      tokens: [{ id: 'eve@pve!tok', acl: [{ path: '/vms', privileges: ['VM.Config.Network'] }] }],
    },
    given: cloned,
    send: { ...put({ ciuser: 'ada' }), as: { token: 'eve@pve!tok' } },
    expect: { data: null },
  },
  {
    line: 229,
    says: 'VM.Config.Cloudinit is enough too',
    world: {
      tokens: [{ id: 'eve@pve!tok', acl: [{ path: '/vms', privileges: ['VM.Config.Cloudinit'] }] }],
    },
    given: cloned,
    send: { ...put({ ciuser: 'ada' }), as: { token: 'eve@pve!tok' } },
    expect: { data: null },
  },
  {
    line: 229,
    says: 'other privileges are not',
    world: {
      tokens: [{ id: 'eve@pve!tok', acl: [{ path: '/vms', privileges: ['VM.Config.CPU'] }] }],
    },
    given: cloned,
    send: { ...put({ ciuser: 'ada' }), as: { token: 'eve@pve!tok' } },
    expect: {
      status: 403,
      error:
        /^Permission check failed \(\/vms\/10500, VM\.Config\.(Cloudinit\|VM\.Config\.Network|Network\|VM\.Config\.Cloudinit)\)$/,
    },
  },
  {
    line: 229,
    says: 'the drive itself needs VM.Config.CDROM and VM.Config.Cloudinit',
    world: {
      tokens: [
        {
          id: 'eve@pve!tok',
          acl: [
            { path: '/vms', privileges: ['VM.Config.CDROM', 'VM.Config.Disk'] },
            { path: '/storage', privileges: ['Datastore.AllocateSpace'] },
          ],
        },
      ],
    },
    send: {
      call: 'PUT /nodes/pve1/qemu/100/config',
      form: { ide2: 'ceph:cloudinit' },
      as: { token: 'eve@pve!tok' },
    },
    expect: { status: 403, error: /VM\.Config\.Cloudinit/ },
  },
  {
    line: 229,
    says: 'a second drive',
    given: cloned,
    send: put({ ide3: 'ceph:cloudinit' }),
    expect: { error: /cloud-init drive is already attached at 'ide2'/ },
  },
]);
