import { describe, expect, it } from 'vitest';
import { ExpressionError, evaluate, parseExpression, references } from './expression.js';

const scope = {
  inputs: { machine: { node: 'pve1', size: { cores: 2 } } },
  steps: { clone: { vmid: 105 }, skipped: null },
};
const value = (text: string): unknown => evaluate(parseExpression(text), scope);

describe('expressions', () => {
  it.each([
    ['inputs.machine.node', 'pve1'],
    ['steps.clone.vmid', 105],
    ['inputs.machine.node == "pve1"', true],
    ["inputs.machine.node != 'pve1'", false],
    ['inputs.machine.size.cores == 2 && !steps.skipped', true],
    ['(false || steps.clone.vmid) == 105', true],
    ['steps.skipped.address', null],
    ['inputs.nobody', null],
    ['true && null', null],
    ['-1.5', -1.5],
  ])('%s is %j', (text, expected) => {
    expect(value(text)).toEqual(expected);
  });

  it('knows no functions, no arithmetic and no way to a prototype', () => {
    for (const text of ['upper(inputs.x)', '1 + 1', 'inputs["x"]', 'a =', '"open', '(true', 'true false', ''])
      expect(() => parseExpression(text), text).toThrow(ExpressionError);
    expect(value('inputs.machine.constructor')).toBeNull();
    expect(value('inputs.__proto__')).toBeNull();
  });

  it('says where it is wrong', () => {
    expect(() => parseExpression('true && %')).toThrow(
      expect.objectContaining({ offset: expect.any(Number) as number }),
    );
  });

  it('lists its references', () => {
    expect(references(parseExpression('a.b == 1 && !(c.d || "e")'))).toEqual([
      ['a', 'b'],
      ['c', 'd'],
    ]);
  });
});
