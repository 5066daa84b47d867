/** `a=1,b=2` in order; a first part without `=` (the default key of most property strings) is under ''. */
export function parseProperties(text: string): Map<string, string> {
  return new Map(
    text.split(',').map((part) => {
      const equals = part.indexOf('=');
      return equals < 0 ? ['', part] : [part.slice(0, equals), part.slice(equals + 1)];
    }),
  );
}

const UNIT_GIB = { '': 1 / 1024 ** 3, K: 1 / 1024 ** 2, M: 1 / 1024, G: 1, T: 1024 } as const;

/** `20G` in GiB; `undefined` when it is no size. */
export function sizeGiB(text: string | undefined): number | undefined {
  const match = /^([0-9]+(?:\.[0-9]+)?)([KMGT]?)$/.exec(text ?? '');
  return match ? Number(match[1]) * UNIT_GIB[match[2] as keyof typeof UNIT_GIB] : undefined;
}
