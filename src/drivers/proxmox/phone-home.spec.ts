import { describe, expect, it } from 'vitest';
import { Secret } from '../../ports/secrets.js';
import { phoneHomeKeys } from './phone-home.js';
import { vmConfig } from './wire.js';

const TOKEN = `hatchery${'0a'.repeat(32)}`;
const UUID = '0190aaaa-0000-7000-8000-000000000001';
const keys = (config: object) =>
  phoneHomeKeys(
    vmConfig.parse({ digest: 'd', ...config }),
    new Secret(TOKEN),
    'local:snippets/hatchery.yaml',
  );

describe('a guest that is told to phone home', () => {
  it('finds the token as its serial number and keeps its UUID', () => {
    expect(keys({ smbios1: `uuid=${UUID}` })).toEqual({
      smbios1: `uuid=${UUID},serial=${TOKEN}`,
      cicustom: 'vendor=local:snippets/hatchery.yaml',
    });
  });

  it('finds it encoded where its template encodes such texts', () => {
    const encoded = Buffer.from(TOKEN).toString('base64');
    expect(keys({ smbios1: `base64=1,product=ZGVzaw==,serial=b2xk,uuid=${UUID}` }).smbios1).toBe(
      `base64=1,product=ZGVzaw==,serial=${encoded},uuid=${UUID}`,
    );
  });

  it('keeps what its template says to cloud-init', () => {
    expect(keys({ cicustom: 'user=local:snippets/u.yaml' }).cicustom).toBe(
      'user=local:snippets/u.yaml,vendor=local:snippets/hatchery.yaml',
    );
    expect(keys({ cicustom: 'vendor=local:snippets/own.yaml' })).not.toHaveProperty('cicustom');
  });
});
