export type Params = Readonly<Record<string, string | number | boolean | undefined>>;

export function withQuery(path: string, query: Params | undefined): string {
  const text = encodeForm(query ?? {});
  return text === '' ? path : `${path}?${text}`;
}

/** Form encoding as the API reads it: `;` is a separator there and must be encoded, booleans are 0 and 1, `undefined` is left out. */
export function encodeForm(params: Params): string {
  return Object.entries(params)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => {
      const text = typeof value === 'boolean' ? (value ? '1' : '0') : String(value);
      return `${encodeURIComponent(name)}=${encodeURIComponent(text)}`;
    })
    .join('&');
}
