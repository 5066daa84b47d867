FROM node:22-bookworm-slim AS build
WORKDIR /hatchery
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY nest-cli.json tsconfig.json .swcrc ./
COPY src ./src
RUN npm run build

FROM node:22-bookworm-slim
LABEL org.opencontainers.image.title="Hatchery" org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /hatchery
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --ignore-scripts && npm cache clean --force
COPY --from=build /hatchery/dist ./dist
COPY bin ./bin
COPY migrations ./migrations
COPY workflows ./workflows
COPY blueprints ./blueprints
COPY hooks ./hooks
COPY LICENSE ./

# One image, any role: HATCHERY_ROLE=api|worker|all. A worker listens too, for its health check and /metrics.
ENV NODE_ENV=production \
    HATCHERY_HOST=0.0.0.0 \
    HATCHERY_PORT=3000 \
    HATCHERY_STATE_DIR=/var/lib/hatchery
RUN install -d -o node -g node -m 0700 /var/lib/hatchery
USER node
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.HATCHERY_PORT}/health/live`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
STOPSIGNAL SIGTERM
CMD ["node", "--enable-source-maps", "dist/app/main.js"]
