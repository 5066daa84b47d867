/**
 * The cloud-init vendor data of one deployment: the same file for every machine, so nothing of a person or a machine is pasted into it.
 * A guest that gets it posts its addresses once, with the one-time token in its SMBIOS serial number, to `publicUrl`'s `/api/v1/phone-home`.
 * It runs as soon as the network is up (`bootcmd` comes before any upgrade of packages), beside the boot, in nine tries within nine minutes.
 */
export function vendorData(publicUrl: string): string {
  return [
    '#cloud-config',
    '# Hatchery: a new machine tells its addresses, once, to whoever made it. No secret stands in this file.',
    'bootcmd:',
    `- - ${RUN.join('\n  - ')}`,
    `  - |`,
    ...script(publicUrl).map((line) => `    ${line}`),
    '',
  ].join('\n');
}

/** The same as one command of `bootcmd`, for cloud-init data that takes the place of that file. */
export const phoneHomeCommand = (publicUrl: string): readonly string[] => [
  ...RUN,
  `${script(publicUrl).join('\n')}\n`,
];

/** Once for each instance. */
const RUN = ['cloud-init-per', 'instance', 'hatchery-phone-home', 'sh', '-c'] as const;

/** The serial number of a machine that may phone home: letters and digits only, so that it stands as it is wherever it is written. */
export const PHONE_HOME_TOKEN = /^hatchery[0-9a-f]{64}$/;

/** POSIX sh. curl, or the python3 that cloud-init itself needs; the token is never an argument that others could see. */
const script = (publicUrl: string): string[] => [
  `url='${publicUrl.replace(/\/+$/, '').replaceAll("'", '%27')}/api/v1/phone-home'`,
  'post() {',
  '  if command -v curl; then curl -fsS -m 10 -H "Content-Type: application/json" --data-binary @- "$url"',
  `  else python3 -c 'import sys, urllib.request as web`,
  `web.urlopen(web.Request(sys.argv[1], sys.stdin.buffer.read(), {"Content-Type": "application/json"}), timeout=10)' "$url"`,
  '  fi',
  '}',
  'phone_home() {',
  '  read -r token < /sys/class/dmi/id/product_serial',
  '  case $token in hatchery*) ;; *) return ;; esac',
  '  wait=1',
  '  while [ "$wait" -le 256 ]; do',
  '    addresses=$(ip -o addr show scope global | while read -r _ card _ address _; do',
  `      printf ',{"mac":"%s","address":"%s"}' "$(cat "/sys/class/net/$card/address")" "\${address%%/*}"`,
  '    done)',
  `    printf '{"token":"%s","addresses":[%s]}' "$token" "\${addresses#,}" | post && return`,
  '    sleep "$wait"',
  '    wait=$((wait * 2))',
  '  done',
  '}',
  'phone_home > /dev/null 2>&1 < /dev/null &',
];
