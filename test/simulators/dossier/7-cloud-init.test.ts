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
    line: 223,
    says: 'ciupgrade is 1 by default',
    given: cloned,
    send: `GET ${GUEST}/cloudinit/dump?type=user`,
    expect: { data: expect.stringMatching(/^package_upgrade: true$/m) },
  },
  {
    line: 223,
    says: 'ciupgrade=0 upgrades nothing',
    given: async (bench) => {
      await bench.clone();
      await bench.data(put({ ciupgrade: 0 }));
    },
    send: `GET ${GUEST}/cloudinit/dump?type=user`,
    expect: { data: expect.not.stringMatching(/package_upgrade: true/) },
  },
  {
    line: 224,
    says: 'a custom part replaces the generated one entirely',
    world: asked,
    given: async (bench) => {
      await bench.clone();
      await bench.data(put({ cicustom: 'user=nas:snippets/user.yaml' }));
    },
    send: `GET ${GUEST}/cloudinit/dump?type=user`,
    expect: { data: '#cloud-config\nfinal: 1\n' },
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
    line: 226,
    says: 'the host name is the first label of the name, the FQDN is the name',
    given: async (bench) => {
      await bench.clone(10_500, { name: 'web.lab.example' });
    },
    send: `GET ${GUEST}/cloudinit/dump?type=user`,
    expect: { data: expect.stringMatching(/^hostname: web$[\s\S]*^fqdn: web\.lab\.example$/m) },
  },
  {
    line: 226,
    says: 'the instance id is a SHA-1 that changes with the user data',
    given: cloned,
    send: async (bench) => {
      const meta = `GET ${GUEST}/cloudinit/dump?type=meta`;
      const before = await bench.data<string>(meta);
      expect(before).toMatch(/^instance-id: [0-9a-f]{40}$/m);
      await bench.data(put({ ciuser: 'somebody' }));
      expect(await bench.data<string>(meta)).not.toBe(before);
      return meta;
    },
    expect: {},
  },
  {
    line: 228,
    says: 'changes on a running VM show as pending in GET cloudinit',
    given: async (bench) => {
      await bench.clone();
      await bench.task(`POST ${GUEST}/status/start`);
      await bench.data(put({ ciuser: 'later' }));
    },
    send: `GET ${GUEST}/cloudinit`,
    expect: {
      data: expect.arrayContaining([
        expect.objectContaining({ key: 'ciuser', value: 'debian', pending: 'later' }),
      ]),
    },
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
  {
    line: 291,
    says: 'PUT cloudinit needs VM.Config.Cloudinit',
    world: {
      tokens: [{ id: 'eve@pve!tok', acl: [{ path: '/vms', privileges: ['VM.Config.Network'] }] }],
    },
    given: cloned,
    send: { call: `PUT ${GUEST}/cloudinit`, as: { token: 'eve@pve!tok' } },
    expect: { status: 403, error: /VM\.Config\.Cloudinit/ },
  },
]);
