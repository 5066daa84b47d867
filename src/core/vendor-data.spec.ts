import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { vendorData } from './vendor-data.js';

const commandOf = (text: string): string[] => (parse(text) as { bootcmd: string[][] }).bootcmd[0]!;

describe('the vendor data', () => {
  it('is cloud-config with one command, once for each instance', () => {
    const text = vendorData('https://hatchery.example.org/');
    expect(text.split('\n')[0]).toBe('#cloud-config');
    expect(commandOf(text).slice(0, 5)).toEqual([
      ...['cloud-init-per', 'instance', 'hatchery-phone-home', 'sh', '-c'],
    ]);
    expect(text).toContain(`url='https://hatchery.example.org/api/v1/phone-home'`);
  });

  it('takes no address for code', () => {
    const script = commandOf(vendorData(`http://h/'$(touch x)'`))[5]!;
    expect(script.split('\n')[0]).toBe(`url='http://h/%27$(touch x)%27/api/v1/phone-home'`);
  });
});
