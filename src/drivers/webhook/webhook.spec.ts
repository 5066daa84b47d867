import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { checkTarget, Webhook, isInside } from './webhook.js';

let server: Server | undefined;
afterEach(() => server?.close());

async function listen(
  status: number,
  headers: Record<string, string> = {},
): Promise<{ url: string; bodies: string[] }> {
  const bodies: string[] = [];
  server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      bodies.push(body);
      response.writeHead(status, headers).end();
    });
  });
  await new Promise<void>((resolve) => server!.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`, bodies };
}

const allowed = new Webhook({ allowedHosts: ['127.0.0.1'], timeoutMs: 2_000 });

describe('the webhook', () => {
  it('posts JSON to a host that an admin listed', async () => {
    const { url, bodies } = await listen(204);
    await allowed.post(url, { batch: 'l3' }, 'key');
    expect(bodies).toEqual(['{"batch":"l3"}']);
  });

  it.each([
    '127.0.0.1',
    '10.1.2.3',
    '169.254.169.254',
    '192.168.1.1',
    '::1',
    'fd00::1',
    '::ffff:127.0.0.1',
    '0.0.0.0',
    '::ffff:7f00:1',
    '::7f00:1',
    '2002:7f00:1::',
    '2001:0:7f00:1::',
    '64:ff9b:1::7f00:1',
    '::ffff:0:7f00:1',
    'fec0::1',
  ])('counts %s as inside', (address) => expect(isInside(address)).toBe(true));
  it.each(['93.184.216.34', '2606:2800:220:1::1'])('counts %s as outside', (address) =>
    expect(isInside(address)).toBe(false),
  );

  it('never connects to an inside address, written as such or behind a name', async () => {
    const { url, bodies } = await listen(204);
    const strict = new Webhook({ allowedHosts: [], timeoutMs: 2_000 });
    await expect(strict.post(url, {}, 'key')).rejects.toMatchObject({
      code: 'request-invalid',
      retry: 'never',
    });
    await expect(strict.post(url.replace('127.0.0.1', 'localhost'), {}, 'key')).rejects.toMatchObject({
      code: 'request-invalid',
    });
    expect(bodies).toEqual([]);
  });

  it.each([
    'http://127.1/hook',
    'http://2130706433/',
    'http://[::1]:8006/',
    'http://localhost:3000/',
    'http://a.localhost./',
    'https://hook:secret@example.org/',
  ])('is refused %s before anything is asked', (url) => {
    expect(() => checkTarget(url, [])).toThrow(/^Unable to post the summary to /);
    expect(() => checkTarget(url, [])).not.toThrow(/secret/);
  });

  it('gives up on an answer that never ends', async () => {
    server = createServer((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/plain' });
      const drip = setInterval(() => response.write('.'), 20);
      response.on('close', () => clearInterval(drip));
    });
    await new Promise<void>((resolve) => server!.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const hasty = new Webhook({ allowedHosts: ['127.0.0.1'], timeoutMs: 200 });
    await expect(hasty.post(url, {}, 'key')).rejects.toMatchObject({
      code: 'service-unreachable',
      retry: 'later',
    });
  });

  it('follows no redirect, repeats later on 5xx, gives up on other refusals', async () => {
    await expect(
      allowed.post((await listen(302, { location: 'http://169.254.169.254/' })).url, {}, 'k'),
    ).rejects.toMatchObject({ code: 'remote-refused' });
    server?.close();
    await expect(allowed.post((await listen(503)).url, {}, 'k')).rejects.toMatchObject({
      code: 'service-unreachable',
      retry: 'later',
    });
    server?.close();
    await expect(allowed.post((await listen(404)).url, {}, 'k')).rejects.toMatchObject({
      code: 'remote-refused',
      retry: 'never',
    });
  });
});
