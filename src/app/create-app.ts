import type { IncomingMessage } from 'node:http';
import type { DynamicModule } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { NextFunction, Request, Response } from 'express';
import helmet from 'helmet';
import { AppModule } from './app.module.js';
import { Accounts } from './auth/accounts.js';
import { makeFirstAdmin } from './auth/first-admin.js';
import type { AppContext } from './context.js';
import { NestLogger } from './logging/logger.js';
import { requestLog } from './logging/request-log.js';
import { Metrics } from './metrics/metrics.js';

const BODY_LIMIT = '256kb';
const PHONE_HOME_LIMIT = '16kb';

const isPhoneHome = ({ url = '', headers }: IncomingMessage): boolean =>
  /^\/api\/v1\/phone-home\b/.test(url) && /^application\/json\b/.test(headers['content-type'] ?? '');

/** Builds one process of the product; the caller listens and closes. The first admin exists when this returns. */
export async function createApp(context: AppContext, engine: DynamicModule): Promise<NestExpressApplication> {
  const app = await NestFactory.create<NestExpressApplication>(await AppModule.for(context, engine), {
    logger: new NestLogger(context.logger),
    abortOnError: false,
    bodyParser: false,
    forceCloseConnections: true,
  });
  app.disable('x-powered-by');
  // Nobody in front of us is believed about addresses: the throttle of the sign-in counts by them.
  app.set('trust proxy', false);
  app.use(requestLog(context.logger));
  app.use(app.get(Metrics).middleware());
  // Answers hold names of people, some of them passwords: no browser or proxy keeps them.
  app.use('/api', (_request: Request, response: Response, next: NextFunction) => {
    response.setHeader('Cache-Control', 'no-store');
    next();
  });
  app.use(security(context.settings.http.publicUrl));
  // Anybody may send there, and nobody has much to say.
  app.useBodyParser('json', { limit: PHONE_HOME_LIMIT, type: isPhoneHome });
  app.useBodyParser('json', { limit: BODY_LIMIT });
  if (context.settings.engine.role !== 'worker') {
    const { serveApiDocument } = await import('./api/openapi.js');
    serveApiDocument(app);
    await makeFirstAdmin(app.get(Accounts), context);
  }
  return app;
}

function security(publicUrl: string | undefined): ReturnType<typeof helmet> {
  const isTls = publicUrl?.startsWith('https:') === true;
  return helmet({
    // Over plain http on a LAN address, browsers told to upgrade would show a blank page.
    strictTransportSecurity: isTls,
    contentSecurityPolicy: {
      directives: {
        defaultSrc: ["'self'"],
        scriptSrc: ["'self'"],
        styleSrc: ["'self'", "'unsafe-inline'"],
        imgSrc: ["'self'", 'data:'],
        objectSrc: ["'none'"],
        frameAncestors: ["'none'"],
        ...(isTls ? {} : { upgradeInsecureRequests: null }),
      },
    },
  });
}
