import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { HatcheryError } from '../../src/core/errors.js';
import { describeWithMark, type Mark } from '../../src/core/mark.js';
import { plainCall } from '../../src/ports/call.js';
import type {
  CloneRequest,
  GuestSettings,
  Hypervisor,
  IntendedUse,
  TaskRef,
  TemplateInfo,
} from '../../src/ports/hypervisor.js';

/** A guest as the other side has it. */
export interface RemoteGuest {
  readonly name: string | undefined;
  readonly node: string;
  readonly pool: string | undefined;
  readonly running: boolean;
  readonly mac: string | undefined;
  readonly description: string | undefined;
  readonly memoryMiB: number;
  readonly cores: number;
  readonly sshKeys: string;
  readonly diskGiB: number | undefined;
}

/** A hypervisor seen from the driver's side and from its own. */
export interface HypervisorSetup {
  readonly hypervisor: Hypervisor;
  readonly deployment: string;
  readonly pool: string;
  readonly template: string;
  /** Two nodes; the template is on the first, its storage is shared. */
  readonly nodes: readonly [string, string];
  readonly fullStorage: string;
  /** What a site would do there. */
  readonly use: IntendedUse;
  /** Guests of others. */
  readonly foreignQemu: number;
  readonly foreignLxc: number;
  remote(vmid: number): RemoteGuest | undefined;
  /** The network gives addresses to this MAC. */
  allowMac(mac: string): void;
  /** Somebody makes a guest, e.g. a copy of ours that took the description along. */
  makeForeign(vmid: number, description?: string): void;
  removeByHand(vmid: number): void;
  migrateByHand(vmid: number, node: string): void;
  startByHand(vmid: number): void;
  changeTemplate(change: boolean): void;
  /** Clones stop in the middle, with nothing there but the id. */
  holdClones(): void;
  clonesHeld(count: number): Promise<void>;
  releaseClones(): void;
  stop(): Promise<void>;
}

/** What every hypervisor driver must do, judged by what the other side has. */
export function hypervisorContract(name: string, start: () => Promise<HypervisorSetup>): void {
  describe(`${name}: contract of a hypervisor`, () => {
    let setup: HypervisorSetup;
    let hypervisor: Hypervisor;
    let template: TemplateInfo;
    let nextVmid = 12_000;

    beforeAll(async () => {
      setup = await start();
      hypervisor = setup.hypervisor;
      template = (await hypervisor.templates('qemu', [setup.template], plainCall()))[0]!;
    });
    afterAll(() => setup.stop());

    const aMark = (): Mark => ({
      deployment: setup.deployment,
      machine: randomUUID(),
      run: randomUUID(),
      step: 'clone-template',
      vmid: nextVmid++,
      attempt: 1,
    });
    const aClone = (mark: Mark, over: Partial<CloneRequest> = {}): CloneRequest => ({
      kind: 'qemu',
      template: {
        vmid: template.vmid,
        node: template.node,
        digest: template.digest,
        storageShared: template.storageShared,
      },
      vmid: mark.vmid,
      name: `vm-${mark.vmid}`,
      node: setup.nodes[0],
      mode: 'linked',
      storage: undefined,
      description: describeWithMark(`Machine ${mark.vmid}`, mark),
      ...over,
    });
    const someSettings = (vmid: number, over: Partial<GuestSettings> = {}): GuestSettings => ({
      cores: 4,
      memoryMiB: 4096,
      bridge: 'vmbr0',
      vlan: undefined,
      mac: `02:00:00:00:${Math.floor(vmid / 256) % 256 < 16 ? '0' : ''}${(Math.floor(vmid / 256) % 256).toString(16)}:${(vmid % 256).toString(16).padStart(2, '0')}`,
      ciUser: 'ada',
      ciPassword: undefined,
      sshKeys: [
        'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB6iHkrrDsHJ0VqDRDQNJ8bHMHcJXcyJGLGnqmM/2VX+ ada; home & more',
      ],
      ...over,
    });
    const ended = async (task: TaskRef | undefined) =>
      task === undefined ? undefined : hypervisor.followTask(task, plainCall());
    const made = async (over: Partial<CloneRequest> = {}): Promise<Mark> => {
      const mark = aMark();
      const task = await hypervisor.startClone(aClone(mark, over), plainCall());
      expect(await ended(task)).toMatchObject({ verdict: 'ok', warnings: 0 });
      return mark;
    };
    const noRun = { incarnations: [], deletingRun: randomUUID() };

    describe('reading', () => {
      it('shows nodes, storages and guests of both kinds in one inventory', async () => {
        const inventory = await hypervisor.inventory();
        expect(inventory.nodes.map((node) => node.name)).toEqual(expect.arrayContaining([...setup.nodes]));
        expect(
          inventory.nodes.every((node) => node.online && node.cores > 0 && node.memoryTotalMiB > 0),
        ).toBe(true);
        const byId = new Map(inventory.guests.map((guest) => [guest.vmid, guest]));
        expect(byId.get(setup.foreignQemu)?.kind).toBe('qemu');
        expect(byId.get(setup.foreignLxc)?.kind).toBe('lxc');
        expect(byId.get(template.vmid)?.template).toBe(true);
        const shared = inventory.storages.filter((storage) => storage.id === template.storage);
        expect(shared).toHaveLength(1);
        expect(shared[0]).toMatchObject({ shared: true, node: undefined });
      });

      it('pins a template by a digest that stays the same, with nothing to complain about', async () => {
        const again = (await hypervisor.templates('qemu', [setup.template], plainCall()))[0]!;
        expect(again).toEqual(template);
        expect(template).toMatchObject({
          name: setup.template,
          node: setup.nodes[0],
          storageShared: true,
          problems: [],
        });
        expect(template.diskGiB).toBeGreaterThan(0);
      });

      it('finds no template under a name that nobody has', async () => {
        await expect(hypervisor.templates('qemu', ['no-such'], plainCall())).rejects.toMatchObject({
          code: 'not-found',
        });
      });

      it('tells free VMIDs from used ones of both kinds', async () => {
        expect(await hypervisor.lookupVmid(19_999, plainCall())).toEqual({ answer: 'free' });
        expect((await hypervisor.lookupVmid(setup.foreignQemu, plainCall())).answer).toBe('used');
        expect((await hypervisor.lookupVmid(setup.foreignLxc, plainCall())).answer).toBe('used');
      });
    });

    describe('cloning', () => {
      it('makes a stopped guest with our mark, on the node and in the pool that were asked for', async () => {
        const mark = await made({ node: setup.nodes[1] });
        const remote = setup.remote(mark.vmid)!;
        expect(remote).toMatchObject({
          name: `vm-${mark.vmid}`,
          node: setup.nodes[1],
          pool: setup.pool,
          running: false,
        });
        const own = await hypervisor.readOwn(mark, plainCall(), { withPool: true });
        expect(own).toMatchObject({
          answer: 'ours',
          guest: { vmid: mark.vmid, node: setup.nodes[1], pool: setup.pool, lock: undefined, mark },
        });
        if (own.answer !== 'ours') return;
        expect(own.guest.incarnation).toMatch(/^[0-9a-f-]{36}$/);
        expect(own.guest.mac).toBe(remote.mac);
        expect(own.guest.disks[template.disk]?.sizeGiB).toBe(template.diskGiB);
      });

      it('tells the progress of a full copy', async () => {
        const mark = aMark();
        const request = aClone(mark, { mode: 'full', storage: setup.fullStorage });
        const task = await hypervisor.startClone(request, plainCall());
        const seen: number[] = [];
        const verdict = await hypervisor.followTask(task, plainCall(), ({ percent }) => seen.push(percent!));
        expect(verdict.verdict).toBe('ok');
        expect(seen).toEqual([...seen].sort((a, b) => a - b));
        expect(seen.every((percent) => percent >= 0 && percent <= 100)).toBe(true);
        expect(setup.remote(mark.vmid)?.diskGiB).toBe(template.diskGiB);
      });

      it('asked twice gives the same guest once', async () => {
        const mark = aMark();
        const first = await hypervisor.startClone(aClone(mark), plainCall());
        await ended(first);
        const again = await hypervisor.startClone(aClone(mark), plainCall());
        expect(await ended(again)).toMatchObject({ verdict: 'ok' });
        expect(await hypervisor.readOwn(mark, plainCall())).toMatchObject({ answer: 'ours' });
      });

      it('never takes the VMID of somebody else', async () => {
        const mark = aMark();
        setup.makeForeign(mark.vmid);
        const before = setup.remote(mark.vmid);
        const clone = async (): Promise<unknown> =>
          ended(await hypervisor.startClone(aClone(mark), plainCall())).then((verdict) => verdict!.verdict);
        // A collision with another node may show only in the verdict; then the guest there is read, and is not ours.
        expect(await clone().catch((error: HatcheryError) => error.code)).toMatch(/^(error|foreign-guest)$/);
        expect(await hypervisor.readOwn(mark, plainCall())).toMatchObject({ answer: 'foreign' });
        await hypervisor.inventory({ maxAgeMs: 0 });
        await expect(clone()).rejects.toMatchObject({ code: 'foreign-guest', facts: { vmid: mark.vmid } });
        expect(setup.remote(mark.vmid)).toEqual(before);
      });

      it('refuses a template that is not the pinned one any more', async () => {
        setup.changeTemplate(true);
        const mark = aMark();
        const request = aClone(mark, {
          template: { ...aClone(mark).template, digest: `${template.digest.slice(1)}0` },
        });
        await expect(hypervisor.startClone(request, plainCall())).rejects.toMatchObject({
          code: 'template-changed',
        });
        expect(setup.remote(mark.vmid)).toBeUndefined();
        setup.changeTemplate(false);
      });

      it('sends nothing without our mark in the description', async () => {
        const mark = aMark();
        for (const description of ['', describeWithMark('', { ...mark, vmid: 19_998 })])
          await expect(
            hypervisor.startClone(aClone(mark, { description }), plainCall()),
          ).rejects.toMatchObject({ code: 'internal' });
        expect(setup.remote(mark.vmid)).toBeUndefined();
      });

      it('sends nothing when the last look before the send says no', async () => {
        const mark = aMark();
        const call = {
          ...plainCall(),
          beforeSend: () => {
            throw new Error('the lease is over');
          },
        };
        await expect(hypervisor.startClone(aClone(mark), call)).rejects.toThrow('the lease is over');
        expect(setup.remote(mark.vmid)).toBeUndefined();
        expect(await hypervisor.lookupVmid(mark.vmid, plainCall())).toEqual({ answer: 'free' });
      });
    });

    describe('finding out what became of a clone', () => {
      it('finds nothing where nothing was sent', async () => {
        const mark = aMark();
        expect(await hypervisor.traceClone(aClone(mark), mark, Date.now(), plainCall())).toEqual({
          found: 'nothing',
        });
      });

      it('finds the running task, which cannot be judged by its config yet, and later its end', async () => {
        const since = Date.now();
        const [mark, other] = [aMark(), aMark()];
        setup.holdClones();
        const task = await hypervisor.startClone(aClone(mark), plainCall());
        await hypervisor.startClone(aClone(other), plainCall());
        await setup.clonesHeld(2);
        expect(await hypervisor.traceClone(aClone(mark), mark, since, plainCall())).toEqual({
          found: 'running',
          value: task,
        });
        expect(await hypervisor.readOwn(mark, plainCall())).toMatchObject({ answer: 'unknown' });
        setup.releaseClones();
        await ended(task);
        expect(await hypervisor.traceClone(aClone(mark), mark, since, plainCall())).toEqual({
          found: 'done',
          value: task,
        });
      });

      it('does not call a guest of ours that somebody removed "never made"', async () => {
        const since = Date.now();
        const mark = await made();
        setup.removeByHand(mark.vmid);
        expect(await hypervisor.traceClone(aClone(mark), mark, since, plainCall())).toMatchObject({
          found: 'unknown',
        });
      });

      it('says so when the VMID belongs to somebody else by now', async () => {
        const mark = aMark();
        setup.makeForeign(mark.vmid);
        await expect(
          hypervisor.traceClone(aClone(mark), mark, Date.now(), plainCall()),
        ).rejects.toMatchObject({
          code: 'foreign-guest',
        });
      });
    });

    describe('configuring', () => {
      it('sets sizes, network and first user, and does nothing the second time', async () => {
        const mark = await made();
        const settings = someSettings(mark.vmid);
        const guest = await hypervisor.configure(mark, settings, plainCall());
        expect(guest.node).toBe(setup.nodes[0]);
        expect(guest.incarnation).toMatch(/^[0-9a-f-]{36}$/);
        expect(await hypervisor.readOwn(mark, plainCall())).toMatchObject({
          guest: { cores: 4, memoryMiB: 4096, mac: settings.mac, ciUser: 'ada' },
        });
        expect(setup.remote(mark.vmid)).toMatchObject({
          cores: 4,
          memoryMiB: 4096,
          mac: settings.mac,
          sshKeys: settings.sshKeys.join('\n'),
        });
        let sends = 0;
        const call = { ...plainCall(), beforeSend: () => void (sends += 1) };
        expect(await hypervisor.configure(mark, settings, call)).toEqual(guest);
        expect(sends).toBe(0);
      });

      it('grows a disk to an absolute size, once, and never shrinks it', async () => {
        const mark = await made();
        const size = template.diskGiB + 12;
        expect(
          await ended(await hypervisor.startResize(mark, template.disk, size, plainCall())),
        ).toMatchObject({
          verdict: 'ok',
        });
        expect(setup.remote(mark.vmid)?.diskGiB).toBe(size);
        expect(await hypervisor.startResize(mark, template.disk, size, plainCall())).toBeUndefined();
        await expect(
          hypervisor.startResize(mark, template.disk, template.diskGiB, plainCall()),
        ).rejects.toMatchObject({ code: 'remote-refused', retry: 'never' });
        expect(setup.remote(mark.vmid)?.diskGiB).toBe(size);
      });

      it('finds the guest where an admin moved it', async () => {
        const mark = await made();
        setup.migrateByHand(mark.vmid, setup.nodes[1]);
        const guest = await hypervisor.configure(mark, someSettings(mark.vmid), plainCall());
        expect(guest.node).toBe(setup.nodes[1]);
        expect(setup.remote(mark.vmid)?.cores).toBe(4);
      });
    });

    describe('starting', () => {
      it('starts once, and learns the address by the MAC', async () => {
        const mark = await made();
        const settings = someSettings(mark.vmid);
        setup.allowMac(settings.mac);
        await hypervisor.configure(mark, settings, plainCall());
        expect(await hypervisor.guestAddress(mark, settings.mac, plainCall())).toBeUndefined();
        expect(await ended(await hypervisor.startGuest(mark, plainCall()))).toMatchObject({ verdict: 'ok' });
        expect(setup.remote(mark.vmid)?.running).toBe(true);
        // Whoever does not know whether it was sent looks first; a start that is sent again changes nothing.
        expect(await hypervisor.startGuest(mark, plainCall(), { isRepeat: true })).toBeUndefined();
        expect(await ended(await hypervisor.startGuest(mark, plainCall()))).toMatchObject({ verdict: 'ok' });
        expect(setup.remote(mark.vmid)?.running).toBe(true);
        const asked = (): Promise<string | undefined> =>
          hypervisor.guestAddress(mark, settings.mac, plainCall());
        await expect.poll(asked).toMatch(/^10\./);
        expect(await hypervisor.guestAddress(mark, '02:00:00:ff:ff:ff', plainCall())).toBeUndefined();
      });
    });

    describe('what is not ours', () => {
      const writes: [string, (mark: Mark) => Promise<unknown>][] = [
        ['configured', (mark) => hypervisor.configure(mark, someSettings(mark.vmid), plainCall())],
        ['resized', (mark) => hypervisor.startResize(mark, 'scsi0', 99, plainCall())],
        ['started', (mark) => hypervisor.startGuest(mark, plainCall())],
        ['deleted', (mark) => hypervisor.destroyOwn(mark, noRun, plainCall())],
      ];

      it.each(writes)('is never %s: no mark', async (_, write) => {
        const mark = aMark();
        setup.makeForeign(mark.vmid, 'somebody needs this');
        const before = setup.remote(mark.vmid);
        expect((await hypervisor.readOwn(mark, plainCall())).answer).toBe('foreign');
        await expect(write(mark)).rejects.toMatchObject({ code: 'foreign-guest', retry: 'after-fix' });
        expect(setup.remote(mark.vmid)).toEqual(before);
      });

      it.each(writes)('is never %s: a copy of our guest, mark and all', async (_, write) => {
        const mark = aMark();
        setup.makeForeign(mark.vmid, describeWithMark('copy', { ...mark, vmid: 11_111 }));
        const before = setup.remote(mark.vmid);
        await expect(write(mark)).rejects.toMatchObject({ code: 'foreign-guest' });
        expect(setup.remote(mark.vmid)).toEqual(before);
      });

      it('is never deleted: a container', async () => {
        const mark = { ...aMark(), vmid: setup.foreignLxc };
        const before = setup.remote(mark.vmid);
        await expect(hypervisor.destroyOwn(mark, noRun, plainCall())).rejects.toMatchObject({
          code: 'foreign-guest',
        });
        expect(setup.remote(mark.vmid)).toEqual(before);
      });

      it('is never deleted: our mark on another incarnation', async () => {
        const mark = await made();
        const before = setup.remote(mark.vmid);
        const other = { incarnations: [randomUUID()], deletingRun: randomUUID() };
        await expect(hypervisor.destroyOwn(mark, other, plainCall())).rejects.toMatchObject({
          code: 'foreign-guest',
        });
        expect(setup.remote(mark.vmid)).toEqual(before);
      });
    });

    describe('deleting', () => {
      it('removes a running guest of ours, and finds nothing the second time', async () => {
        const mark = await made();
        const own = await hypervisor.readOwn(mark, plainCall());
        const incarnations = own.answer === 'ours' && own.guest.incarnation ? [own.guest.incarnation] : [];
        setup.startByHand(mark.vmid);
        const options = { incarnations, deletingRun: randomUUID() };
        expect(await hypervisor.destroyOwn(mark, options, plainCall())).toEqual({ existed: true });
        expect(setup.remote(mark.vmid)).toBeUndefined();
        expect(await hypervisor.destroyOwn(mark, options, plainCall())).toEqual({ existed: false });
        expect(await hypervisor.readOwn(mark, plainCall())).toEqual({ answer: 'none' });
      });

      it.each([1, 2, 3])('goes on where an earlier delete was cut at write %i', async (cutAt) => {
        const mark = await made();
        setup.startByHand(mark.vmid);
        const options = { incarnations: [], deletingRun: randomUUID() };
        let writes = 0;
        const cut = {
          ...plainCall(),
          beforeSend: () => {
            writes += 1;
            if (writes === cutAt) throw new Error('killed');
          },
        };
        await expect(hypervisor.destroyOwn(mark, options, cut)).rejects.toThrow('killed');
        expect(setup.remote(mark.vmid)).toBeDefined();
        expect(await hypervisor.destroyOwn(mark, options, plainCall())).toEqual({ existed: true });
        expect(setup.remote(mark.vmid)).toBeUndefined();
      });
    });

    it('finds nothing to complain about in a cluster that is set up as the documentation says', async () => {
      const findings = await hypervisor.check(setup.use, plainCall());
      const bad = findings.filter((finding) => !finding.ok && !finding.subject.startsWith('VMIDs'));
      expect(bad).toEqual([]);
    });
  });
}
