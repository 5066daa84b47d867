import { request as plainRequest, type IncomingMessage } from 'node:http';
import { connect, type TLSSocket } from 'node:tls';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createContext } from '../../src/simulators/create-context.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';
import { WireClient, type WireReply } from './proxmox-client.js';

describe('how Proxmox reads a request', () => {
  let context: ReturnType<typeof createContext>;
  let simulator: ProxmoxSimulator;
  let root: WireClient;

  beforeAll(async () => {
    context = createContext({ timeScale: 0.02 });
    simulator = await startProxmoxSimulator(context);
    root = await WireClient.signedIn(simulator);
  });
  afterAll(async () => {
    root.close();
    await simulator.stop();
    context.close();
  });

  const send = (body: string, type = 'application/x-www-form-urlencoded'): Promise<WireReply> =>
    root.send('PUT', '/access/users/hatchery@pve', body, { 'content-type': type });
  const comment = (): string | undefined => context.world.users.get('hatchery@pve')!.comment;

  describe('forms', () => {
    it('are split at ampersands and semicolons, with + as space', async () => {
      await send('comment=a+b%2Bc;expire=7&firstname=%C3%A9');
      expect(context.world.users.get('hatchery@pve')).toMatchObject({
        comment: 'a b+c',
        expire: 7,
        firstname: 'é',
      });
      await send('expire=0');
    });

    it('lose what follows a second equals sign, and keep a percent sign that is none', async () => {
      await send('comment=a=b');
      expect(comment()).toBe('a');
      await send('comment=100%');
      expect(comment()).toBe('100%');
    });

    it('give lists for repeated keys, joined where a list belongs', async () => {
      expect((await send('comment=a&comment=b')).json.errors).toEqual({
        comment: "type check ('string') failed - got ARRAY",
      });
      const reply = await root.send(
        'PUT',
        '/access/acl',
        'path=/vms&users=hatchery@pve&users=none@pve&roles=PVEAuditor',
      );
      expect(reply.reason).toBe("ACL update failed: user 'none@pve' does not exist");
    });

    it('without a value for a key have nothing for it', async () => {
      const reply = await root.send('POST', '/access/users', 'userid&comment=x');
      expect(reply.json.errors).toEqual({ userid: 'property is missing and it is not optional' });
    });

    it('are what a body without a type is', async () => {
      const reply = await root.send('PUT', '/access/users/hatchery@pve', 'comment=bare', {
        'content-type': '',
      });
      expect(reply.status).toBe(200);
      expect(comment()).toBe('bare');
    });

    it('yield to the query', async () => {
      await root.send('PUT', '/access/users/hatchery@pve?comment=query&_dc=1', 'comment=body');
      expect(comment()).toBe('query');
    });
  });

  describe('JSON bodies', () => {
    const json = (value: unknown): Promise<WireReply> => send(JSON.stringify(value), 'application/json');

    it('may hold numbers, booleans and null', async () => {
      expect((await json({ comment: 'json', enable: true, expire: 0, email: null })).status).toBe(200);
      expect(comment()).toBe('json');
      expect((await json({ comment: true })).json.errors).toEqual({
        comment: "type check ('string') failed - got JSON::PP::Boolean",
      });
      expect((await json({ comment: { a: 1 } })).json.errors).toEqual({
        comment: "type check ('string') failed - got HASH",
      });
      expect((await json({ expire: '1x', enable: 'yes' })).json.errors).toEqual({
        expire: "type check ('integer') failed - got '1x'",
        enable: "type check ('boolean') failed - got 'yes'",
      });
    });

    it('that are none are refused', async () => {
      expect(await send('{', 'application/json')).toMatchObject({ status: 501, json: {} });
      expect(await send('[]', 'application/json')).toMatchObject({ status: 501, json: {} });
    });
  });

  it('checks what the URI says, and refuses to hear it twice with another value', async () => {
    expect((await root.get('/nodes/pve1/qemu/99/config')).json.errors).toEqual({
      vmid: 'invalid format - value does not look like a valid VM ID\n',
    });
    expect((await root.get('/access/roles/a%20b')).json.errors).toEqual({
      roleid: "invalid format - role name 'a b' contains invalid characters\n",
    });
    expect((await root.put('/access/users/hatchery@pve', { userid: 'root@pam' })).json.errors).toEqual({
      userid: 'duplicate parameter (already defined in URI) with conflicting values!',
    });
    expect((await root.put('/access/users/hatchery@pve', { userid: 'hatchery@pve' })).status).toBe(200);
  });

  it('names a parameter that another one needs', async () => {
    expect((await root.put('/access/users/hatchery@pve', { append: 1 })).json.errors).toEqual({
      groups: "missing property required by 'append'",
    });
  });

  describe('what the HTTP layer refuses', () => {
    const bare = { json: {}, connection: 'close' };
    const typeOf = (reply: WireReply): string | undefined => reply.headers['content-type'];

    it('has no JSON and no content type', async () => {
      for (const method of ['GET', 'DELETE']) {
        const text = `Unexpected content for method '${method}'`;
        const reply = await root.send(method, '/access/users/hatchery@pve', 'a=b');
        expect(reply).toMatchObject({ ...bare, status: 501, reason: text, text });
        expect(typeOf(reply)).toBeUndefined();
      }
      const large = await send(`comment=${'x'.repeat(524_289)}`);
      expect(large).toMatchObject({ ...bare, status: 501, text: 'for data too large' });
      const type = "upload 'Content-Type 'text/plain; charset=utf-8' not implemented";
      expect(await send('x', 'text/plain; charset=utf-8')).toMatchObject({
        ...bare,
        status: 506,
        text: type,
      });
      expect(await root.send('PATCH', '/version')).toMatchObject({
        status: 501,
        reason: "method 'PATCH' not available",
        text: '',
      });
      const chunked = await root.send('POST', '/access/users', undefined, { 'transfer-encoding': 'chunked' });
      expect(chunked).toMatchObject({
        ...bare,
        status: 501,
        text: 'chunked transfer encoding not supported',
      });
    });

    it('comes before the sign-in or after it, as on the real one', async () => {
      const anonymous = new WireClient(simulator, undefined, undefined, {});
      expect((await anonymous.send('PATCH', '/version')).status).toBe(501);
      expect((await anonymous.send('GET', '/version', 'a=b')).reason).toBe('No ticket');
      expect((await anonymous.get('/no/such/call')).reason).toBe('No ticket');
      anonymous.close();
    });

    it('knows a call that is none by JSON', async () => {
      expect(await root.get('/foo')).toMatchObject({
        status: 501,
        reason: "Method 'GET /foo' not implemented",
        json: { data: null, message: "Method 'GET /foo' not implemented\n" },
      });
      expect((await root.post('/version')).reason).toBe("Method 'POST /version' not implemented");
      expect((await root.get('//version/')).status).toBe(200);
    });
  });

  describe('other addresses', () => {
    const at = (path: string): Promise<WireReply> => root.send('GET', `/../..${path}`);

    it('have an envelope of their own under extjs: always 200', async () => {
      expect(JSON.parse((await at('/api2/extjs/version')).text)).toMatchObject({
        success: 1,
        data: { release: '9.1' },
      });
      const missing = await at('/api2/extjs/access/users/none@pve');
      expect(missing.status).toBe(200);
      expect(missing.connection).not.toBe('close');
      expect(JSON.parse(missing.text)).toEqual({
        success: 0,
        status: 500,
        message: "no such user ('none@pve')\n",
        data: null,
      });
    });

    it('are refused when there is nothing', async () => {
      expect(await at('/api2')).toMatchObject({ status: 501, text: 'no such uri' });
      expect(await at('/elsewhere')).toMatchObject({ status: 501, text: "no such file '/elsewhere'" });
      expect(await at('/api2/xml/version')).toMatchObject({
        status: 501,
        text: 'no formatter for uri /version, xml',
      });
    });
  });

  it('compresses long answers for who asks', async () => {
    const zipped = await new Promise<{ message: IncomingMessage; body: Buffer }>((resolve) =>
      root.stream('/access/roles', { 'accept-encoding': 'gzip' }, (message) => {
        const chunks: Buffer[] = [];
        message.on('data', (chunk: Buffer) => chunks.push(chunk));
        message.on('end', () => resolve({ message, body: Buffer.concat(chunks) }));
      }),
    );
    expect(zipped.message.headers['content-encoding']).toBe('gzip');
    expect(gunzipSync(zipped.body).toString()).toContain('PVEAuditor');
    const short = await root.send('GET', '/version', undefined, { 'accept-encoding': 'gzip' });
    expect(short.headers['content-encoding']).toBeUndefined();
  });

  describe('connections', () => {
    const over = (method: string): Promise<IncomingMessage> =>
      new Promise((resolve, reject) => {
        const url = new URL(simulator.endpoints[0]!);
        const call = plainRequest(
          { host: url.hostname, port: url.port, method, path: '/api2/json/version?a=1', agent: false },
          (reply) => resolve(reply.resume()),
        );
        call.on('error', reject).end();
      });

    it('in plain HTTP are sent to https', async () => {
      const read = await over('GET');
      expect([read.statusCode, read.headers.location]).toEqual([
        301,
        `${simulator.endpoints[0]}/api2/json/version?a=1`,
      ]);
      const write = await over('POST');
      expect([write.statusCode, write.headers.connection]).toEqual([308, 'close']);
    });

    it('that speak no HTTP get a bad request', async () => {
      const url = new URL(simulator.endpoints[0]!);
      const text = await new Promise<string>((resolve, reject) => {
        const options = { host: url.hostname, port: Number(url.port), ca: simulator.caPem };
        const socket: TLSSocket = connect(options, () => socket.write('nonsense\r\n\r\n'));
        let received = '';
        socket.setEncoding('utf8').on('data', (chunk: string) => (received += chunk));
        socket.on('end', () => resolve(received)).on('error', reject);
      });
      expect(text).toMatch(/^HTTP\/1\.[01] 400 bad request\r\n/);
      expect(text).toMatch(/\r\n\r\nbad request$/);
    });

    it('take a hundred requests each', async () => {
      const replies: (string | undefined)[] = [];
      for (let count = 0; count < 101; count += 1) replies.push((await root.get('/version')).connection);
      expect(replies.indexOf('close')).toBeLessThanOrEqual(99);
      expect(replies.filter((connection) => connection === 'close')).toHaveLength(1);
    });
  });
});
