import { describe, expect, it } from 'vitest';
import { commandIdOf, MESSAGES, readBody, receivedOf, shellIdOf, WsmanFault } from './wsman.js';

const soap = (body: string): string =>
  `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:rsp="urn:rsp" xmlns:w="urn:w" xmlns:x="urn:x" xmlns:a="urn:a"><s:Header/><s:Body>${body}</s:Body></s:Envelope>`;
const target = { endpoint: 'https://dhcp1.example:5986/wsman', operationTimeoutMs: 20_000 };

describe('WS-Management messages', () => {
  it('escapes what a command holds', () => {
    const message = MESSAGES.command(target, 'S', 'echo "<&>"');
    expect(message).toContain('<rsp:Command>echo &quot;&lt;&amp;&gt;&quot;</rsp:Command>');
  });

  it('asks for UTF-8 and for an end of shells that nobody uses', () => {
    const message = MESSAGES.createShell(target);
    expect(message).toContain('<w:Option Name="WINRS_CODEPAGE">65001</w:Option>');
    expect(message).toContain('<rsp:IdleTimeOut>PT60S</rsp:IdleTimeOut>');
    expect(message).toContain('<w:OperationTimeout>PT20.000S</w:OperationTimeout>');
  });

  it('marks only the last piece of the input as its end', () => {
    expect(MESSAGES.send(target, 'S', 'C', Buffer.from('a'), false)).not.toContain('End=');
    expect(MESSAGES.send(target, 'S', 'C', Buffer.from('a'), true)).toContain('End="true">YQ==<');
  });

  it('finds the ids of a shell and of a command', () => {
    const created = `<x:ResourceCreated><a:Address>y</a:Address><a:ReferenceParameters><w:ResourceURI>u</w:ResourceURI><w:SelectorSet><w:Selector Name="ShellId">11AA</w:Selector></w:SelectorSet></a:ReferenceParameters></x:ResourceCreated>`;
    expect(shellIdOf(readBody(soap(created)))).toBe('11AA');
    const started = '<rsp:CommandResponse><rsp:CommandId>22BB</rsp:CommandId></rsp:CommandResponse>';
    expect(commandIdOf(readBody(soap(started)))).toBe('22BB');
    expect(shellIdOf(readBody(soap('')))).toBeUndefined();
  });

  it('keeps a character whole that is cut between two chunks', () => {
    const bytes = Buffer.from('é');
    const stream = (chunk: Buffer): string =>
      `<rsp:Stream Name="stdout" CommandId="C">${chunk.toString('base64')}</rsp:Stream>`;
    const received = receivedOf(
      readBody(
        soap(
          `<rsp:ReceiveResponse>${stream(bytes.subarray(0, 1))}${stream(bytes.subarray(1))}<rsp:Stream Name="stderr" CommandId="C" End="true"/><rsp:CommandState CommandId="C" State="http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandState/Done"><rsp:ExitCode>3</rsp:ExitCode></rsp:CommandState></rsp:ReceiveResponse>`,
        ),
      ),
    );
    expect(Buffer.concat([...received!.stdout]).toString('utf8')).toBe('é');
    expect(received).toMatchObject({ isDone: true, exitCode: 3 });
  });

  it('throws a fault with its code and text', () => {
    const fault = `<s:Fault><s:Code><s:Value>s:Receiver</s:Value></s:Code><s:Reason><s:Text xml:lang="en-US">short</s:Text></s:Reason><s:Detail><f:WSManFault xmlns:f="urn:f" Code="2150858793" Machine="DHCP1"><f:Message>The operation
      took too long. </f:Message></f:WSManFault></s:Detail></s:Fault>`;
    expect(() => readBody(soap(fault))).toThrow(new WsmanFault(2150858793, 'The operation took too long.'));
  });

  it('takes the reason of a fault that has no detail', () => {
    const fault =
      '<s:Fault><s:Reason><s:Text xml:lang="en-US">Access is denied.</s:Text></s:Reason></s:Fault>';
    expect(() => readBody(soap(fault))).toThrow('Access is denied.');
  });

  it.each([
    ['a page of a proxy', '<html><body>Bad gateway</body></html>'],
    ['a cut answer', '<s:Envelope><s:Body><rsp:Rec'],
    ['a document type', `<!DOCTYPE x [<!ENTITY a "b">]>${soap('')}`],
    ['nothing', ''],
  ])('takes %s for no envelope', (_, text) => {
    expect(readBody(text)).toBeUndefined();
  });
});
