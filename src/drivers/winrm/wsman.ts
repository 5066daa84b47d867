import { XMLParser } from 'fast-xml-parser';
import { randomUUID } from 'node:crypto';

const SHELL = 'http://schemas.microsoft.com/wbem/wsman/1/windows/shell';
const TRANSFER = 'http://schemas.xmlsoap.org/ws/2004/09/transfer';
const RESOURCE_URI = `${SHELL}/cmd`;
const ANONYMOUS = 'http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous';
const MAX_ENVELOPE_BYTES = 153_600;
/** How long the server keeps a shell that nobody asks for, e.g. after our process died. */
const IDLE_SHELL = 'PT60S';
const UTF8_CODEPAGE = '65001';

const NAMESPACES = [
  'xmlns:s="http://www.w3.org/2003/05/soap-envelope"',
  'xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"',
  'xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"',
  'xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"',
  `xmlns:rsp="${SHELL}"`,
].join(' ');

/** To whom messages go and how long the server may take before it answers with its time-out fault. */
export interface WsmanTarget {
  readonly endpoint: string;
  readonly operationTimeoutMs: number;
}

/** Requests of the text-based shell (MS-WSMV), one SOAP 1.2 envelope each. */
export const MESSAGES = {
  createShell: (target: WsmanTarget): string =>
    envelope(target, `${TRANSFER}/Create`, {
      options: { WINRS_NOPROFILE: 'TRUE', WINRS_CODEPAGE: UTF8_CODEPAGE },
      body: `<rsp:Shell><rsp:IdleTimeOut>${IDLE_SHELL}</rsp:IdleTimeOut><rsp:InputStreams>stdin</rsp:InputStreams><rsp:OutputStreams>stdout stderr</rsp:OutputStreams></rsp:Shell>`,
    }),
  command: (target: WsmanTarget, shellId: string, commandLine: string): string =>
    envelope(target, `${SHELL}/Command`, {
      shellId,
      options: { WINRS_CONSOLEMODE_STDIN: 'FALSE', WINRS_SKIP_CMD_SHELL: 'FALSE' },
      body: `<rsp:CommandLine><rsp:Command>${escapeXml(commandLine)}</rsp:Command></rsp:CommandLine>`,
    }),
  send: (target: WsmanTarget, shellId: string, commandId: string, bytes: Buffer, isEnd: boolean): string =>
    envelope(target, `${SHELL}/Send`, {
      shellId,
      body: `<rsp:Send><rsp:Stream Name="stdin" CommandId="${escapeXml(commandId)}"${isEnd ? ' End="true"' : ''}>${bytes.toString('base64')}</rsp:Stream></rsp:Send>`,
    }),
  receive: (target: WsmanTarget, shellId: string, commandId: string): string =>
    envelope(target, `${SHELL}/Receive`, {
      shellId,
      body: `<rsp:Receive><rsp:DesiredStream CommandId="${escapeXml(commandId)}">stdout stderr</rsp:DesiredStream></rsp:Receive>`,
    }),
  terminate: (target: WsmanTarget, shellId: string, commandId: string): string =>
    envelope(target, `${SHELL}/Signal`, {
      shellId,
      body: `<rsp:Signal CommandId="${escapeXml(commandId)}"><rsp:Code>${SHELL}/signal/terminate</rsp:Code></rsp:Signal>`,
    }),
  deleteShell: (target: WsmanTarget, shellId: string): string =>
    envelope(target, `${TRANSFER}/Delete`, { shellId, body: '' }),
};

interface Content {
  readonly shellId?: string;
  readonly options?: Readonly<Record<string, string>>;
  readonly body: string;
}

function envelope(
  { endpoint, operationTimeoutMs }: WsmanTarget,
  action: string,
  { shellId, options, body }: Content,
): string {
  const selectors =
    shellId === undefined
      ? ''
      : `<w:SelectorSet><w:Selector Name="ShellId">${escapeXml(shellId)}</w:Selector></w:SelectorSet>`;
  const optionSet =
    options === undefined
      ? ''
      : `<w:OptionSet>${Object.entries(options)
          .map(([name, value]) => `<w:Option Name="${name}">${value}</w:Option>`)
          .join('')}</w:OptionSet>`;
  return (
    `<?xml version="1.0" encoding="utf-8"?><s:Envelope ${NAMESPACES}><s:Header>` +
    `<a:To>${escapeXml(endpoint)}</a:To><a:ReplyTo><a:Address s:mustUnderstand="true">${ANONYMOUS}</a:Address></a:ReplyTo>` +
    `<w:MaxEnvelopeSize s:mustUnderstand="true">${MAX_ENVELOPE_BYTES}</w:MaxEnvelopeSize><a:MessageID>uuid:${randomUUID().toUpperCase()}</a:MessageID>` +
    `<w:Locale s:mustUnderstand="false" xml:lang="en-US"/><p:DataLocale s:mustUnderstand="false" xml:lang="en-US"/>` +
    `<w:OperationTimeout>PT${(operationTimeoutMs / 1000).toFixed(3)}S</w:OperationTimeout>` +
    `<w:ResourceURI s:mustUnderstand="true">${RESOURCE_URI}</w:ResourceURI><a:Action s:mustUnderstand="true">${action}</a:Action>` +
    `${selectors}${optionSet}</s:Header><s:Body>${body}</s:Body></s:Envelope>`
  );
}

/** What a refusing server says. `code` is the decimal code of the WSManFault, 0 when it gives none. */
export class WsmanFault extends Error {
  override readonly name = 'WsmanFault';
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

/** An element: attributes begin with `@`, text is `#text`; what occurs once is not in a list. */
type Element = Readonly<Record<string, unknown>>;

const parser = new XMLParser({
  ignoreAttributes: false,
  removeNSPrefix: true,
  attributeNamePrefix: '@',
  parseTagValue: false,
  parseAttributeValue: false,
  alwaysCreateTextNode: true,
});

/** The body of an answer. Errors: `WsmanFault` for a fault; `undefined` = not a SOAP envelope. */
export function readBody(xml: string): Element | undefined {
  // Nobody honest sends a document type, and what it may declare (entities) is not wanted.
  if (xml.includes('<!DOCTYPE')) return undefined;
  const body = one(one(parse(xml), 'Envelope'), 'Body');
  const fault = one(body, 'Fault');
  if (fault === undefined) return body;
  const detail = one(one(fault, 'Detail'), 'WSManFault');
  const said =
    text(one(detail, 'Message')) || text(one(one(fault, 'Reason'), 'Text')) || 'a fault without a text';
  throw new WsmanFault(Number(attribute(detail, 'Code')), said.replace(/\s+/g, ' ').trim());
}

function parse(xml: string): unknown {
  try {
    return parser.parse(xml);
  } catch {
    return undefined; // cut or not XML: no envelope
  }
}

export function shellIdOf(body: Element | undefined): string | undefined {
  const selectors = list(
    one(one(one(body, 'ResourceCreated'), 'ReferenceParameters'), 'SelectorSet'),
    'Selector',
  );
  const named = selectors.find((selector) => attribute(selector, 'Name') === 'ShellId');
  return text(named ?? one(one(body, 'Shell'), 'ShellId')) || undefined;
}

export function commandIdOf(body: Element | undefined): string | undefined {
  return text(one(one(body, 'CommandResponse'), 'CommandId')) || undefined;
}

export interface Received {
  readonly stdout: readonly Buffer[];
  readonly stderr: readonly Buffer[];
  readonly isDone: boolean;
  readonly exitCode: number | undefined;
}

/** Chunks stay bytes: a character may be cut between two of them. */
export function receivedOf(body: Element | undefined): Received | undefined {
  const response = one(body, 'ReceiveResponse');
  if (response === undefined) return undefined;
  const chunks = (name: string): Buffer[] =>
    list(response, 'Stream')
      .filter((stream) => attribute(stream, 'Name') === name)
      .map((stream) => Buffer.from(text(stream), 'base64'));
  const state = one(response, 'CommandState');
  const exitCode = text(one(state, 'ExitCode'));
  return {
    stdout: chunks('stdout'),
    stderr: chunks('stderr'),
    isDone: attribute(state, 'State').endsWith('/CommandState/Done'),
    exitCode: exitCode === '' ? undefined : Number(exitCode),
  };
}

function list(node: Element | undefined, name: string): Element[] {
  const value = node?.[name];
  const items: unknown[] = value === undefined ? [] : Array.isArray(value) ? value : [value];
  return items.filter((item): item is Element => typeof item === 'object' && item !== null);
}

function one(node: unknown, name: string): Element | undefined {
  return typeof node === 'object' && node !== null ? list(node as Element, name)[0] : undefined;
}

function text(node: Element | undefined): string {
  const value = node?.['#text'];
  return typeof value === 'string' ? value.trim() : '';
}

function attribute(node: Element | undefined, name: string): string {
  const value = node?.[`@${name}`];
  return typeof value === 'string' ? value : '';
}

function escapeXml(value: string): string {
  return value
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
