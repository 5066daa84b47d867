import type { Secret } from '../../ports/secrets.js';
import { parseProperties } from './properties.js';
import { withSnippets } from './snippets.js';
import type { VmConfig } from './wire.js';

/**
 * What a config write must set so that the guest gets the vendor data and finds the token as its serial number. The SMBIOS UUID stays: it is
 * half of the guest's incarnation. A template that has vendor data of its own keeps it. Pure.
 */
export function phoneHomeKeys(
  config: VmConfig,
  token: Secret,
  vendorData: string,
): { readonly smbios1: string; readonly cicustom?: string } {
  const smbios = config.smbios1 === undefined ? new Map() : parseProperties(config.smbios1);
  const isEncoded = smbios.get('base64') === '1';
  smbios.set('serial', isEncoded ? Buffer.from(token.reveal()).toString('base64') : token.reveal());
  const smbios1 = [...smbios].map(([key, value]) => `${key}=${value}`).join(',');
  const custom = config.cicustom ?? '';
  if (parseProperties(custom).has('vendor')) return { smbios1 };
  return { smbios1, cicustom: withSnippets(custom, { vendor: vendorData }) };
}
