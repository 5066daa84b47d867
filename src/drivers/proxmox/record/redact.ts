/** Takes everything out of remote text that belongs to one site: what is named there, numbers, addresses, digests. */
export class Redactor {
  readonly #names: readonly (readonly [name: string, instead: string])[];

  /** `names` by what stands in for them: `{ node: ['pve1'] }` writes `<node>`. */
  constructor(names: Readonly<Record<string, Iterable<string>>>) {
    this.#names = Object.entries(names)
      .flatMap(([kind, all]) => [...all].map((name) => [name, `<${kind}>`] as const))
      .filter(([name]) => name.length > 1)
      .toSorted(([a], [b]) => b.length - a.length);
  }

  text(text: string): string {
    let plain = text.replaceAll(/UPID:[^\s'"]+/g, '<upid>');
    for (const [name, instead] of this.#names)
      plain = plain.replaceAll(
        new RegExp(`(?<![A-Za-z0-9<-])${escaped(name)}(?![A-Za-z0-9>-])`, 'g'),
        instead,
      );
    return plain
      .replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/gi, '<uuid>')
      .replaceAll(/([0-9a-f]{2}:){5,}[0-9a-f]{2}/gi, '<hex>')
      .replaceAll(/\d{1,3}(\.\d{1,3}){3}(:\d+)?/g, '<address>')
      .replaceAll(/[^\s'"(),]+@[^\s'"(),]+/g, '<user>')
      .replaceAll(/\d{3,}/g, '<n>')
      .trim();
  }
}

const escaped = (name: string): string => name.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
