import { ERRORS, HatcheryError } from '../../core/errors.js';
import { newDeployment } from '../../drivers/postgres/new-deployment.js';
import { readSettings } from '../config/settings.js';

/** `hatchery admin new-deployment` as a program: it works on the database itself, because the service refuses to start on a copy. */
try {
  const { store, engine } = readSettings(process.env);
  if (store.databaseUrl === undefined || engine.deployment === undefined)
    throw new HatcheryError(
      'settings-invalid',
      'Unable to begin a new deployment: DATABASE_URL and HATCHERY_DEPLOYMENT are needed',
      {
        hint: 'Set DATABASE_URL to the copied database and HATCHERY_DEPLOYMENT to the new name.',
      },
    );
  const { deployment, forgotten } = await newDeployment(store.databaseUrl.reveal(), engine.deployment);
  process.stdout.write(
    process.argv.includes('--json')
      ? `${JSON.stringify({ deployment, forgotten })}\n`
      : `This database is now deployment "${deployment.name}". ${forgotten} machines stay with the original and are forgotten here.\nGive it a token, a pool and a VMID range of its own before it starts.\n`,
  );
} catch (error) {
  if (!(error instanceof HatcheryError)) throw error;
  process.stderr.write(`${error.message}\n${error.hint ?? ''}\n`);
  process.exitCode = ERRORS[error.code].exit;
}
