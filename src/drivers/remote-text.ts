/** Remote text as it may be shown: one line, no control characters, at most 600 characters. */
export function cleanText(text: string): string {
  // oxlint-disable-next-line no-control-regex -- taking control characters out is the point
  const line = text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ').trim();
  return line.length > 600 ? `${line.slice(0, 599)}…` : line;
}
