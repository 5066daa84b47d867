import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createInterface } from 'node:readline';

export interface RemoteCalls {
  readonly proxmox: number;
  readonly winrmCommands: number;
}

/** Where the journal ends now. */
export async function journalEnd(file: string): Promise<number> {
  return (await stat(file)).size;
}

/** Calls that reached the simulated systems since `from`, a place given by `journalEnd`. */
export async function remoteCalls(file: string, from: number): Promise<RemoteCalls> {
  let proxmox = 0;
  let winrmCommands = 0;
  for await (const line of createInterface({
    input: createReadStream(file, { start: from, encoding: 'utf8' }),
  })) {
    const { sim, event, op, params } = JSON.parse(line) as {
      sim: string;
      event: string;
      op?: string;
      params?: { sameConversation?: boolean };
    };
    if (event !== 'request') continue;
    // Several requests to a node over SSH may be one conversation.
    if (sim === 'proxmox') proxmox += params?.sameConversation === true ? 0 : 1;
    else if (op === 'winrm.command') winrmCommands += 1;
  }
  return { proxmox, winrmCommands };
}
