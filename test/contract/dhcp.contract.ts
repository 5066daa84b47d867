import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { plainCall, type Call } from '../../src/ports/call.js';
import type { AllowEntry, Dhcp } from '../../src/ports/dhcp.js';

export interface Listed {
  readonly list: 'Allow' | 'Deny';
  readonly description: string;
}

/** A DHCP server seen from the driver's side and from its own. MAC addresses lower case with colons. */
export interface DhcpSetup {
  readonly driver: Dhcp;
  listed(mac: string): Listed | undefined;
  /** What somebody else writes on the server. */
  put(mac: string, entry: Listed): void;
  stop(): Promise<void>;
}

/** What every driver of a DHCP server must do, judged by what the server lists. */
export function dhcpContract(name: string, start: () => Promise<DhcpSetup>): void {
  describe(`${name}: contract of a DHCP server`, () => {
    let setup: DhcpSetup;
    let next = 0;
    const newMac = (): string => `02:00:00:00:01:${(next++).toString(16).padStart(2, '0')}`;
    const ours = 'hatchery deployment=d machine=m';

    beforeAll(async () => {
      setup = await start();
    });
    afterAll(() => setup.stop());

    it('allows an address, and finds it', async () => {
      const entry = { mac: newMac(), description: ours };
      await setup.driver.allow([entry], plainCall());
      expect(setup.listed(entry.mac)).toEqual({ list: 'Allow', description: ours });
      expect(await setup.driver.findAllowed([entry.mac], plainCall())).toEqual([entry]);
    });

    it('finds nothing where nothing is', async () => {
      expect(await setup.driver.findAllowed([newMac()], plainCall())).toEqual([undefined]);
    });

    it('allows the same entry twice as once', async () => {
      const entry = { mac: newMac(), description: ours };
      await setup.driver.allow([entry], plainCall());
      await setup.driver.allow([entry], plainCall());
      expect(setup.listed(entry.mac)).toEqual({ list: 'Allow', description: ours });
    });

    it('refuses an address that somebody else allowed, and leaves the entry as it is', async () => {
      const mac = newMac();
      const theirs: Listed = { list: 'Allow', description: 'printer' };
      setup.put(mac, theirs);
      expect(await setup.driver.allow([{ mac, description: ours }], plainCall())).toMatchObject([
        { code: 'remote-refused' },
      ]);
      expect(setup.listed(mac)).toEqual(theirs);
    });

    it('neither finds nor moves an address that is denied', async () => {
      const mac = newMac();
      const denied: Listed = { list: 'Deny', description: ours };
      setup.put(mac, denied);
      expect(await setup.driver.findAllowed([mac], plainCall())).toEqual([undefined]);
      expect(await setup.driver.allow([{ mac, description: ours }], plainCall())).toMatchObject([
        { code: 'remote-refused' },
      ]);
      expect(await setup.driver.disallow([{ mac, description: ours }], plainCall())).toMatchObject([
        { code: 'foreign-guest' },
      ]);
      expect(setup.listed(mac)).toEqual(denied);
    });

    it('removes its own entry, and says that it was there', async () => {
      const entry = { mac: newMac(), description: ours };
      await setup.driver.allow([entry], plainCall());
      expect(await setup.driver.disallow([entry], plainCall())).toEqual([{ existed: true }]);
      expect(setup.listed(entry.mac)).toBeUndefined();
      expect(await setup.driver.disallow([entry], plainCall())).toEqual([{ existed: false }]);
    });

    it('does not remove an entry with another description', async () => {
      const mac = newMac();
      const theirs: Listed = { list: 'Allow', description: `${ours} ` };
      setup.put(mac, theirs);
      expect(await setup.driver.disallow([{ mac, description: ours }], plainCall())).toMatchObject([
        { code: 'foreign-guest' },
      ]);
      expect(setup.listed(mac)).toEqual(theirs);
    });

    it('does for each of many what it would do for it alone, and answers in their order', async () => {
      const [added, there, foreign, absent] = Array.from({ length: 4 }, () => ({
        mac: newMac(),
        description: ours,
      })) as [AllowEntry, AllowEntry, AllowEntry, AllowEntry];
      const theirs: Listed = { list: 'Allow', description: 'printer' };
      setup.put(there.mac, { list: 'Allow', description: ours });
      setup.put(foreign.mac, theirs);
      expect(await setup.driver.allow([foreign, added, there], plainCall())).toMatchObject([
        { code: 'remote-refused' },
        undefined,
        undefined,
      ]);
      const all = [there, absent, foreign, added];
      expect(
        await setup.driver.findAllowed(
          all.map(({ mac }) => mac),
          plainCall(),
        ),
      ).toEqual([there, undefined, { mac: foreign.mac, description: 'printer' }, added]);
      expect(await setup.driver.disallow(all, plainCall())).toMatchObject([
        { existed: true },
        { existed: false },
        { code: 'foreign-guest' },
        { existed: true },
      ]);
      expect(all.map(({ mac }) => setup.listed(mac))).toEqual([undefined, undefined, theirs, undefined]);
    });

    it.each([
      ["quotes and a command: a'; Remove-Item x; '"],
      ['typographic quotes: \u2018a\u2019; \u201cb\u201d'],
      ['substitution: $(calc) `n ${env:PATH}'],
      ['accents and beyond: Éloïse, 機械, \u{1f423}'],
      ['line ends: a\r\nb'],
    ])('keeps every character of a description (%s)', async (description) => {
      const entry = { mac: newMac(), description };
      await setup.driver.allow([entry], plainCall());
      expect(setup.listed(entry.mac)?.description).toBe(description);
      expect(await setup.driver.findAllowed([entry.mac], plainCall())).toEqual([entry]);
      expect(await setup.driver.disallow([entry], plainCall())).toEqual([{ existed: true }]);
    });

    it('serves many callers at once', async () => {
      const entries = Array.from({ length: 12 }, () => ({ mac: newMac(), description: ours }));
      await Promise.all(entries.map((entry) => setup.driver.allow([entry], plainCall())));
      expect(entries.map(({ mac }) => setup.listed(mac)?.description)).toEqual(entries.map(() => ours));
    });

    it('writes nothing when the lease is over at the last moment', async () => {
      const mac = newMac();
      const over: Call = {
        signal: new AbortController().signal,
        beforeSend: () => {
          throw new Error('the lease is over');
        },
      };
      await expect(setup.driver.allow([{ mac, description: ours }], over)).rejects.toThrow(
        'the lease is over',
      );
      expect(setup.listed(mac)).toBeUndefined();
    });

    it('asks for the lease once per write and never for a read', async () => {
      const entry = { mac: newMac(), description: ours };
      let asked = 0;
      const counting: Call = {
        signal: new AbortController().signal,
        beforeSend: () => {
          asked += 1;
        },
      };
      await setup.driver.findAllowed([entry.mac], counting);
      await setup.driver.check(counting);
      expect(asked).toBe(0);
      await setup.driver.allow([entry], counting);
      expect(asked).toBe(1);
      await setup.driver.disallow([entry], counting);
      expect(asked).toBe(2);
    });

    it('writes nothing for a caller that gave up before', async () => {
      const mac = newMac();
      const gone = plainCall(AbortSignal.abort(new Error('cancelled')));
      await expect(setup.driver.allow([{ mac, description: ours }], gone)).rejects.toThrow('cancelled');
      expect(setup.listed(mac)).toBeUndefined();
    });

    it('finds nothing to complain about on a good server', async () => {
      const findings = await setup.driver.check(plainCall());
      expect(findings.length).toBeGreaterThan(0);
      expect(findings.filter(({ ok }) => !ok)).toEqual([]);
    });
  });
}
