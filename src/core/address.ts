/** A MAC address as we keep and send it: lower-case, with colons, `02:1a:2b:3c:4d:5e`. */
export type Mac = string;

/**
 * Reads a MAC address written with colons, hyphens, dots or nothing; `undefined` when it is none.
 * Upper case and the Windows form `AA-BB-CC-DD-EE-FF` give the same text as ours.
 */
export function normaliseMac(text: string): Mac | undefined {
  const trimmed = text.trim();
  if (!MAC_FORMS.some((form) => form.test(trimmed))) return undefined;
  return trimmed
    .replace(/[^0-9A-Fa-f]/g, '')
    .toLowerCase()
    .match(/../g)
    ?.join(':');
}

const MAC_FORMS = [
  /^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$/,
  /^[0-9A-Fa-f]{2}(-[0-9A-Fa-f]{2}){5}$/,
  /^[0-9A-Fa-f]{4}(\.[0-9A-Fa-f]{4}){2}$/,
  /^[0-9A-Fa-f]{12}$/,
];

/** The form of Windows DHCP filters: `AA-BB-CC-DD-EE-FF`. Throws a plain TypeError on text that is no MAC: callers hold a checked one. */
export function macWithHyphens(mac: Mac): string {
  const normal = normaliseMac(mac);
  if (normal === undefined) throw new TypeError(`"${mac}" is not a MAC address`);
  return normal.replaceAll(':', '-').toUpperCase();
}

/**
 * A unicast, locally administered MAC from five random bytes. The first byte is always 02: never multicast, and never
 * the prefix of a manufacturer or the one that Proxmox VE gives by itself (BC:24:11).
 */
export function localMac(random: Uint8Array): Mac {
  if (random.length !== 5) throw new TypeError('a MAC needs five random bytes');
  return ['02', ...Array.from(random, (byte) => byte.toString(16).padStart(2, '0'))].join(':');
}
