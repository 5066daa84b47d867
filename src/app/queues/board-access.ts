import type { RequestHandler } from 'express';
import type { Cluster, Redis } from 'ioredis';
import { asHatcheryError, problemBody } from '../errors/problem.js';
import type { Accounts } from '../auth/accounts.js';
import { bearerToken } from '../auth/bearer-token.js';
import { LoginThrottle } from '../auth/login-throttle.js';

/** Lets admins in: with a token, or from a browser with login and password (HTTP Basic), throttled like the sign-in. */
export function boardAccess(accounts: Accounts, redis: Redis | Cluster, prefix: string): RequestHandler {
  const throttle = new LoginThrottle(redis, prefix);
  return (request, response, next) => {
    const token = bearerToken(request);
    const basic = basicCredentials(request.headers.authorization);
    const judge = async (): Promise<'admin' | 'other' | 'nobody'> => {
      if (token !== undefined) return judgeRole((await accounts.byToken(token))?.role);
      if (basic === undefined) return 'nobody';
      const address = request.socket.remoteAddress ?? '';
      await throttle.count(basic.login, address);
      const user = await accounts.byPassword(basic.login, basic.password);
      if (user) await throttle.forgive(basic.login, address);
      return judgeRole(user?.role);
    };
    judge().then(
      (verdict) => {
        if (verdict === 'admin') next();
        else if (verdict === 'other')
          response.status(403).type('text/plain').send('The queues are for admins.');
        else
          response
            .status(401)
            .setHeader('WWW-Authenticate', 'Basic realm="Hatchery queues", charset="UTF-8"')
            .type('text/plain')
            .send('Sign in as an admin.');
      },
      (thrown: unknown) => {
        const error = asHatcheryError(thrown);
        if (error.cause !== undefined) response.err = thrown instanceof Error ? thrown : error;
        const body = problemBody(error, typeof request.id === 'string' ? request.id : undefined);
        response.status(body.status).type('application/problem+json').send(JSON.stringify(body));
      },
    );
  };
}

const judgeRole = (role: string | undefined): 'admin' | 'other' | 'nobody' => {
  if (role === undefined) return 'nobody';
  return role === 'admin' ? 'admin' : 'other';
};

function basicCredentials(header: string | undefined): { login: string; password: string } | undefined {
  const encoded = /^Basic ([A-Za-z0-9+/=]{1,4000})$/i.exec(header ?? '')?.[1];
  if (encoded === undefined) return undefined;
  const text = Buffer.from(encoded, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  return colon < 0 ? undefined : { login: text.slice(0, colon), password: text.slice(colon + 1) };
}
