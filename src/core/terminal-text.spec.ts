import { describe, expect, it } from 'vitest';
import { padText, terminalText, textWidth, truncateText } from './terminal-text.js';

const ESC = '\u001b';

describe('text for a terminal', () => {
  it.each([
    ['colours', `${ESC}[31mred${ESC}[0m`, 'red'],
    ['cursor moves and screen wipes', `a${ESC}[2J${ESC}[1;1Hb`, 'ab'],
    ['a hyperlink', `${ESC}]8;;http://evil.example${ESC}\\click${ESC}]8;;\u0007`, 'click'],
    ['a window title that never ends', `ok${ESC}]0;title`, 'ok'],
    ['a device control string', `a${ESC}Pq#0${ESC}\\b`, 'ab'],
    ['eight-bit sequences', 'a\u009b31mb\u009d0;t\u009cc', 'abc'],
    ['a reset', `a${ESC}cb`, 'ab'],
    ['a lone escape', `a${ESC}`, 'a'],
    ['a nested sequence', `${ESC}${ESC}[31m[31mx`, '[31mx'],
    ['bidi and zero-width characters', 'a\u202eb\u200bc\u2066d', 'abcd'],
    ['bells, backspaces and NUL', 'a\u0007b\bc\0', 'abc'],
    ['line breaks and tabs', 'a\r\nb\tc\u2028d', 'a b c d'],
    ['nothing else', 'Zoé 日本 🎓 œ', 'Zoé 日本 🎓 œ'],
  ])('loses %s', (_, text, shown) => {
    expect(terminalText(text)).toBe(shown);
  });

  it('holds no control character whatever comes in', () => {
    const all = Array.from({ length: 0x300 }, (_, code) => `${ESC}${String.fromCharCode(code)}`).join('x');
    expect(terminalText(all)).not.toMatch(/\p{Cc}/u);
  });

  it('is cleaned in linear time', () => {
    for (const text of [
      `${ESC}[`.repeat(200_000),
      `${ESC}]`.repeat(200_000),
      `${ESC}[${'0'.repeat(400_000)}`,
    ]) {
      expect(terminalText(text)).not.toContain(ESC);
    }
  });
});

describe('the width of text', () => {
  it('counts what a terminal shows', () => {
    expect(['abc', 'Zoé', 'Zoe\u0301', '日本', '🎓'].map(textWidth)).toEqual([3, 3, 3, 4, 2]);
  });

  it('is kept when text is cut or filled up', () => {
    expect(truncateText('Lovelace', 5)).toBe('Love…');
    expect(truncateText('Ada', 3)).toBe('Ada');
    expect(truncateText('日本語', 4)).toBe('日…');
    expect(truncateText('Ada', 0)).toBe('');
    expect([padText('日本', 6), padText('7', 3, 'right'), padText('long', 2)]).toEqual([
      '日本  ',
      '  7',
      'long',
    ]);
  });
});
