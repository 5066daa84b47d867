import type { INestApplication } from '@nestjs/common';
import { DocumentBuilder, SwaggerModule, type OpenAPIObject } from '@nestjs/swagger';
import { ApiModule } from './api.module.js';

/** Shows the API at `/docs`; its description is made when somebody asks for it. */
export function serveApiDocument(app: INestApplication): void {
  SwaggerModule.setup('docs', app, () => openApiDocument(app), {
    jsonDocumentUrl: 'docs/openapi.json',
    customSiteTitle: 'Hatchery API',
  });
}

/** The description of the API; the same bytes from a running service and from the printed file. */
export function openApiDocument(app: INestApplication): OpenAPIObject {
  const config = new DocumentBuilder()
    .setTitle('Hatchery')
    .setDescription(
      'Turns requests for machines into durable workflows on Proxmox VE clusters. Errors are problem+json with a stable code.',
    )
    .setVersion('1')
    .addBearerAuth({
      type: 'http',
      scheme: 'bearer',
      description: 'A token of POST /api/v1/auth/login or POST /api/v1/tokens',
    })
    .build();
  const document = SwaggerModule.createDocument(app, config, { include: [ApiModule] });
  for (const item of Object.values(document.paths))
    for (const operation of Object.values(item)) retype(operation);
  return document;
}

interface Body {
  content?: Record<string, { schema?: { properties?: object; required?: string[] } }>;
}

/** What Nest cannot know from the schemas: errors are problem+json, and forms carry a file beside their fields. */
function retype(operation: unknown): void {
  if (typeof operation !== 'object' || operation === null || !('responses' in operation)) return;
  const { responses, requestBody } = operation as { responses: Record<string, Body>; requestBody?: Body };
  const refusal = responses['default'];
  const [problem] = Object.values(refusal?.content ?? {});
  if (refusal && problem) refusal.content = { 'application/problem+json': problem };
  const form = requestBody?.content?.['multipart/form-data']?.schema;
  if (!form) return;
  form.properties = {
    roster: { type: 'string', format: 'binary', description: 'Class list: CSV or XLSX' },
    ...form.properties,
  };
  form.required = ['roster', ...(form.required ?? [])];
}
