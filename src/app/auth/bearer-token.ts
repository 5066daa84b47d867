import type { IncomingMessage } from 'node:http';

export const bearerToken = (request: IncomingMessage): string | undefined =>
  /^Bearer ([^\s]+)$/i.exec(request.headers.authorization ?? '')?.[1];
