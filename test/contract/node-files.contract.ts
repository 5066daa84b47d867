import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HatcheryError } from '../../src/core/errors.js';
import { plainCall } from '../../src/ports/call.js';
import type { NodeFileRef, NodeFiles, RawLine } from '../../src/ports/node-files.js';

/** One node with a container, and what the tests do to it behind our back. */
export interface NodeFilesSetup {
  readonly files: NodeFiles;
  readonly node: string;
  /** Where snippets may lie. */
  readonly storage: string;
  /** A container whose config begins with `arch:` and ends in a snapshot. */
  readonly vmid: number;
  configText(): Promise<string>;
  /** Somebody sets a key of its main part; `undefined` removes it. */
  editConfig(key: string, value: string | undefined): Promise<void>;
  /** Somebody holds the container's lock while `work` runs. */
  holdingLock<T>(work: () => Promise<T>): Promise<T>;
  stop(): Promise<void>;
}

const LINES: readonly RawLine[] = [
  ['lxc.idmap', 'u 0 100000 65536'],
  ['lxc.idmap', 'g 0 100000 65536'],
  ['lxc.mount.entry', '/srv/home/é home none bind,create=dir 0 0'],
];
const MISSING_VMID = 999_999;

/** The raw lines of the main part. */
const rawIn = (text: string): string[] => text.split('\n[')[0]!.match(/^lxc\..*/gm) ?? [];

const codeOf = (error: unknown): unknown =>
  error instanceof HatcheryError ? [error.code, error.facts['reason']] : error;
const failure = (work: Promise<unknown>): Promise<unknown> => work.then(() => 'it was done', codeOf);

/** What steps count on, whatever is at the other end of the wire. */
export function nodeFilesContract(name: string, start: () => Promise<NodeFilesSetup>): void {
  describe(`the files of a node, ${name}`, () => {
    let at: NodeFilesSetup;
    const call = plainCall();
    const digestNow = async (): Promise<string> =>
      createHash('sha1')
        .update(await at.configText())
        .digest('hex');
    const write = async (lines: readonly RawLine[], digest?: string) =>
      at.files.replaceRawLines(
        { node: at.node, vmid: at.vmid },
        { digest: digest ?? (await digestNow()), lines },
        call,
      );
    const ref = (name: string, place: NodeFileRef['place'] = { in: 'arguments' }): NodeFileRef => ({
      node: at.node,
      place,
      name,
    });

    beforeAll(async () => {
      at = await start();
    });
    afterAll(() => at?.stop());

    it('reads a config with the digest that the API has for it', async () => {
      const config = await at.files.readContainerConfig({ node: at.node, vmid: at.vmid }, call);
      expect(config).toEqual({ text: await at.configText(), digest: await digestNow() });
      expect(await at.files.readContainerConfig({ node: at.node, vmid: MISSING_VMID }, call)).toBeUndefined();
    });

    it('puts raw lines before the first section, in their order, and touches nothing else', async () => {
      const before = await at.configText();
      const written = await write(LINES);
      expect(written.text).toBe(await at.configText());
      const raw = LINES.map(([key, value]) => `${key}: ${value}\n`).join('');
      const main = before.slice(0, before.indexOf('\n\n[') + 1);
      expect(written.text).toBe(main + raw + before.slice(main.length));
      expect(written.digest).toBe(await digestNow());
    });

    it('says the same when the same lines are written again, and replaces them as a whole', async () => {
      const once = await write(LINES);
      expect(await write(LINES, once.digest)).toEqual(once);
      const fewer = await write(LINES.slice(0, 1), once.digest);
      expect(rawIn(fewer.text)).toHaveLength(1);
      const none = await write([], fewer.digest);
      expect(rawIn(none.text)).toEqual([]);
    });

    it('refuses lines for a config that somebody edited in between', async () => {
      const digest = await digestNow();
      await at.editConfig('cores', '3');
      const before = await at.configText();
      expect(await failure(write(LINES, digest))).toEqual(['remote-refused', 'digest-mismatch']);
      expect(await at.configText()).toBe(before);
    });

    it('lets one of two writers of the same digest win', async () => {
      const digest = await digestNow();
      const both = await Promise.all([
        failure(write([['lxc.environment', 'A=1']], digest)),
        failure(write([['lxc.environment', 'B=1']], digest)),
      ]);
      expect(both).toContain('it was done');
      expect(both).toContainEqual(['remote-refused', 'digest-mismatch']);
      expect(rawIn(await at.configText())).toHaveLength(1);
    });

    it('waits for the lock of the config, and gives up', async () => {
      const before = await at.configText();
      await at.holdingLock(async () => {
        expect(await failure(write(LINES))).toEqual(['lock-timeout', 'lock-timeout']);
      });
      expect(await at.configText()).toBe(before);
    });

    it('leaves a config alone while a job has its lock', async () => {
      await at.editConfig('lock', 'backup');
      const before = await at.configText();
      expect(await failure(write(LINES))).toEqual(['lock-timeout', 'locked']);
      expect(await at.configText()).toBe(before);
      await at.editConfig('lock', undefined);
    });

    it.each<[string, RawLine]>([
      ['a newline', ['lxc.environment', 'A=1\nlxc.hook.pre-start: /bin/sh']],
      ['a key that is none', ['hookscript', 'local:snippets/x.sh']],
      ['a key with a newline', ['lxc.idmap\nlxc.hook.start', 'x']],
      ['a section', ['lxc.environment', '\r[pve:pending]']],
    ])('refuses %s in a line and writes nothing', async (_, line) => {
      const before = await at.configText();
      expect(await failure(write([...LINES, line]))).toEqual(['remote-refused', 'malformed']);
      expect(await at.configText()).toBe(before);
    });

    it('says that a container is not there, and that a node is another one', async () => {
      const change = { digest: '0'.repeat(40), lines: [] };
      const missing = { node: at.node, vmid: MISSING_VMID };
      expect(await failure(at.files.replaceRawLines(missing, change, call))).toEqual([
        'not-found',
        'not-found',
      ]);
    });

    it('puts a file, finds it, replaces it and removes it', async () => {
      const file = ref('105.json');
      const put = (text: string) =>
        at.files.putFile(file, { bytes: Buffer.from(text), mode: 'readable' }, call);
      expect(await at.files.readFile(file, call)).toBeUndefined();
      const first = await put('{"é":1}');
      expect(first.path).toMatch(/\/var\/lib\/hatchery\/arguments\/105\.json$/);
      expect(first.mode).toBe('readable');
      expect(first.sha256).toBe(createHash('sha256').update('{"é":1}').digest('hex'));
      expect(await put('{"é":1}')).toEqual(first);
      await put('{}');
      expect((await at.files.readFile(file, call))?.bytes.toString()).toBe('{}');
      expect(await at.files.removeFile(file, call)).toEqual({ existed: true });
      expect(await at.files.removeFile(file, call)).toEqual({ existed: false });
      expect(await at.files.readFile(file, call)).toBeUndefined();
    });

    it('gives files the mode that they are for', async () => {
      const hook = ref('start.sh', { in: 'hooks' });
      const bytes = Buffer.from([0, 255, 10, 13]);
      await at.files.putFile(hook, { bytes, mode: 'private' }, call);
      const put = await at.files.putFile(hook, { bytes, mode: 'runnable' }, call);
      expect(put.mode).toBe('runnable');
      expect((await at.files.readFile(hook, call))?.bytes).toEqual(bytes);
    });

    it('gives a container files of its own, and leaves alone what it writes into them', async () => {
      const report = ref('105.first-boot', { in: 'reports' });
      const empty = { bytes: Buffer.alloc(0), mode: 'guest', keeps: true } as const;
      const put = await at.files.putFile(report, empty, call);
      expect(put.mode).toBe('guest');
      await at.files.putFile(report, { bytes: Buffer.from('done\n'), mode: 'guest' }, call);
      await at.files.putFile(report, empty, call);
      const tails = await at.files.readReports(at.node, [report.name, 'none'], call);
      expect([...tails]).toEqual([[report.name, 'done\n']]);
      const long = Buffer.from(`${'x'.repeat(20_000)}\ndone\n`);
      await at.files.putFile(report, { bytes: long, mode: 'guest' }, call);
      const tail = (await at.files.readReports(at.node, [report.name], call)).get(report.name)!;
      expect([tail.length, tail.slice(-6)]).toEqual([16_384, '\ndone\n']);
      await at.files.removeFile(report, call);
    });

    it('puts snippets where the storage has them, under names of ours', async () => {
      const place = { in: 'snippets', storage: at.storage } as const;
      const content = { bytes: Buffer.from('#cloud-config\n'), mode: 'readable' } as const;
      const put = await at.files.putFile(ref('hatchery-105-user.yaml', place), content, call);
      expect(put.path).toMatch(/\/snippets\/hatchery-105-user\.yaml$/);
      expect([...(await at.files.listSnippets(at.node, at.storage, call))]).toEqual([
        'hatchery-105-user.yaml',
      ]);
      expect(await failure(at.files.listSnippets(at.node, 'nowhere', call))).toEqual([
        'remote-refused',
        'no-storage',
      ]);
      expect(await at.files.removeFile(ref('hatchery-105-user.yaml', place), call)).toEqual({
        existed: true,
      });
      expect(await failure(at.files.putFile(ref('user.yaml', place), content, call))).toEqual([
        'remote-refused',
        'malformed',
      ]);
      const nowhere = ref('hatchery-105.yaml', { in: 'snippets', storage: 'nowhere' });
      expect(await failure(at.files.putFile(nowhere, content, call))).toEqual([
        'remote-refused',
        'no-storage',
      ]);
    });

    it('replaces a snippet as a whole: who reads it meanwhile sees one or the other', async () => {
      const file = ref('hatchery-105-vendor.yaml', { in: 'snippets', storage: at.storage });
      const [before, after] = ['a', 'b'].map((letter) => Buffer.from(letter.repeat(500_000)));
      const put = (bytes: Buffer) => at.files.putFile(file, { bytes, mode: 'private' }, call);
      await put(before!);
      const [, ...seen] = await Promise.all([
        put(after!),
        ...Array.from({ length: 3 }, () => at.files.readFile(file, call)),
      ]);
      for (const read of seen) expect([before, after]).toContainEqual(read!.bytes);
      expect((await at.files.readFile(file, call))!).toMatchObject({ mode: 'private', bytes: after });
      await at.files.removeFile(file, call);
    });

    it.each(['../105.conf', '.hidden', 'a\nb', '-rf'])('refuses %j as a name', async (name) => {
      const content = { bytes: Buffer.from('x'), mode: 'private' } as const;
      expect(await failure(at.files.putFile(ref(name), content, call))).toEqual([
        'remote-refused',
        'malformed',
      ]);
      expect(await failure(at.files.removeFile(ref(name), call))).toEqual(['remote-refused', 'malformed']);
    });

    it('tells which ids root may map', async () => {
      expect(await at.files.idRanges(at.node, call)).toEqual({
        uid: [
          { start: 100_000, count: 65_536 },
          { start: 600_000_000, count: 999_999_999 },
        ],
        gid: [
          { start: 100_000, count: 65_536 },
          { start: 600_000_000, count: 999_999_999 },
        ],
      });
    });

    it('resolves paths, and finds the one that looks around fit', async () => {
      expect(await at.files.resolvePath(at.node, '/', call)).toEqual({
        path: '/',
        isDirectory: true,
        mount: '/',
      });
      expect(await at.files.resolvePath(at.node, '/nowhere/at all', call)).toBeUndefined();
      expect(await failure(at.files.resolvePath(at.node, 'relative', call))).toEqual([
        'remote-refused',
        'malformed',
      ]);
    });
  });
}
