import { describe, expect, it } from 'vitest';
import { DhcpServer } from './dhcp-server.js';
import { DHCP_SCRIPTS } from './dhcp-scripts.js';
import type { WorldDhcp } from '../world.js';

const caller = { user: 'SIM\\hatchery', computer: 'DHCP1' };
const entries = [1, 2, 3, 4].map((n) => ({ mac: `02-00-00-00-00-0${n}`, description: 'ours' }));

describe('a script of many entries', () => {
  it.each(['allow', 'remove'])('that is ended in the middle of an %s has done those before', async (verb) => {
    const world = { allow: new Map(), deny: new Map(), allowEnabled: true, denyEnabled: true };
    const server = new DhcpServer(world as unknown as WorldDhcp, 'DHCP1', () => undefined);
    if (verb === 'remove') for (const { mac, description } of entries) server.add('Allow', mac, description);
    let steps = 0;
    const step = async (): Promise<void> => {
      steps += 1;
      if (steps === 3) throw new Error('ended');
    };
    const script = DHCP_SCRIPTS[`dhcp-filter-${verb} v1`]!;
    await expect(script(server, { entries }, caller, step)).rejects.toThrow('ended');
    const there = server.filters('Allow').map(({ mac }) => mac);
    const done = entries.slice(0, 2).map(({ mac }) => mac);
    expect(entries.map(({ mac }) => mac).filter((mac) => there.includes(mac) === (verb === 'allow'))).toEqual(
      done,
    );
  });
});
