import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { OpenAPIObject } from '@nestjs/swagger';
import { openApiDocument } from './api/openapi.js';
import { AppModule } from './app.module.js';
import { readSettings } from './config/settings.js';
import { ENGINE_PARTS } from './engine/engine-parts.js';
import { createLogger } from './logging/logger.js';

/** Stands where the engine would be; nothing of it is ever called. */
@Module({
  providers: [...ENGINE_PARTS.keys()].map((provide) => ({ provide, useValue: undefined })),
  exports: [...ENGINE_PARTS.keys()],
})
class NoEngine {}

/** The API description without any store: Nest builds the graph and creates nothing in it. */
export async function describeApi(): Promise<OpenAPIObject> {
  const context = {
    settings: readSettings({}),
    site: { clusters: [], services: [], domains: [], hooks: [], blueprints: [], workflowFiles: [] },
    stores: { databaseUrl: 'postgres://nowhere', redisUrl: 'redis://nowhere', redisPrefix: '{none}' },
    deployment: { id: '00000000-0000-4000-8000-000000000000', name: 'none' },
    secretKey: Buffer.alloc(32),
    stateDir: () => Promise.resolve(''),
    logger: createLogger('silent'),
  };
  const app = await NestFactory.create(await AppModule.for(context, { module: NoEngine, global: true }), {
    logger: false,
    preview: true,
    abortOnError: false,
  });
  return openApiDocument(app);
}
