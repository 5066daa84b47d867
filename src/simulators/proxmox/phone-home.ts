import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { parse } from 'yaml';
import { z } from 'zod';
import { Interrupted } from '../clock.js';
import type { WorldGuest } from '../world.js';
import { dump, vendorDataOf } from './cloud-init.js';
import { drawMs } from './durations.js';
import { macOf } from './guest-config.js';
import type { Pve } from './pve.js';

/** What cloud-init does in a guest with its user and vendor data. It runs one command only: the one that phones home. */

const COMMAND = ['cloud-init-per', 'instance', 'hatchery-phone-home', 'sh', '-c'];
const FIRST_WAIT_MS = 1_000;
const LAST_WAIT_MS = 256_000;
const PATIENCE_MS = 10_000;

/** Once for each instance, when its network is up; in the background, with the tries of the command. */
export function phoneHome(pve: Pve, guest: WorldGuest): void {
  const url = urlOf(bootCommands(pve, guest));
  const token = serialOf(guest);
  if (url === undefined || !token.startsWith('hatchery')) return;
  call(pve, guest, url, token).catch((error: unknown) => {
    if (!(error instanceof Interrupted)) throw error;
  });
}

async function call(pve: Pve, guest: WorldGuest, url: string, token: string): Promise<void> {
  const { clock } = pve.context;
  const { startedAtMs } = guest;
  const isUp = (): boolean =>
    pve.world.guests.get(guest.vmid) === guest &&
    guest.status === 'running' &&
    guest.startedAtMs === startedAtMs;
  await clock.sleep(guest.agentUpAtMs - clock.elapsedMs() + drawMs(pve.context, 'cloud-init', guest.vmid));
  const instance = /instance-id: (\S+)/.exec(dump(pve, guest, 'meta'))?.[1] ?? 'unknown';
  const done = `/var/lib/cloud/instances/${instance}/sem/bootper.hatchery-phone-home.instance`;
  if (!isUp() || guest.files.has(done)) return;
  guest.files.set(done, '');
  for (let waitMs = FIRST_WAIT_MS; isUp() && waitMs <= LAST_WAIT_MS; waitMs *= 2) {
    const { address } = guest;
    const addresses = address === undefined ? [] : [{ mac: macOf(guest), address }];
    const status = await post(url, JSON.stringify({ token, addresses }), {
      signal: clock.signal,
      timeoutMs: Math.max(2_000, PATIENCE_MS * clock.timeScale),
    });
    record(pve, guest, status);
    if (status !== undefined && status < 400) return;
    await clock.sleep(waitMs);
  }
}

function record({ world, context }: Pve, guest: WorldGuest, status: number | undefined): void {
  const { node, vmid, incarnation } = guest;
  context.journal.record({
    sim: 'proxmox',
    event: 'foreign',
    actor: 'foreign:guest',
    op: 'guest.phone-home',
    cluster: world.cluster,
    ...{ node, vmid, incarnation },
    effect: false,
    answered: status !== undefined,
    ...(status !== undefined && { status }),
  });
}

/** Where the command posts to; `undefined` = it is not in there. */
function urlOf(commands: readonly string[][]): string | undefined {
  const found = commands.find((words) => COMMAND.every((word, index) => word === words[index]));
  return /^url='([^']+)'$/m.exec(found?.[COMMAND.length] ?? '')?.[1];
}

const commandLists = z.object({ bootcmd: z.array(z.array(z.string()).catch([])) });

/** Those of user data take the place of those of vendor data. */
const bootCommands = (pve: Pve, guest: WorldGuest): readonly string[][] =>
  commandsOf(dump(pve, guest, 'user')) ?? commandsOf(vendorDataOf(pve, guest) ?? '') ?? [];

/** As cloud-init does, it passes over what is no YAML and what is no list of words. */
function commandsOf(data: string): readonly string[][] | undefined {
  try {
    return commandLists.parse(parse(data)).bootcmd;
  } catch {
    return undefined;
  }
}

/** As the guest sees it; empty when nobody gave it one. */
function serialOf({ config }: WorldGuest): string {
  const smbios = config['smbios1'] ?? '';
  const serial = /(?:^|,)serial=([^,]*)/.exec(smbios)?.[1] ?? '';
  return /(?:^|,)base64=1(?:,|$)/.test(smbios) ? Buffer.from(serial, 'base64').toString() : serial;
}

/** Status of the answer; `undefined` = there was none. */
function post(
  url: string,
  body: string,
  { signal, timeoutMs }: { signal: AbortSignal; timeoutMs: number },
): Promise<number | undefined> {
  return new Promise((resolve) => {
    const send = url.startsWith('https:') ? httpsRequest : httpRequest;
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const request = send(url, { method: 'POST', headers, agent: false, signal, timeout: timeoutMs });
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve(undefined));
    request.on('response', (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    request.end(body);
  });
}
