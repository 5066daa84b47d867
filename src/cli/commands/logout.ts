import { rm } from 'node:fs/promises';
import type { Command } from 'commander';
import { logout as signOut } from '../../client/sdk.gen.js';
import { HatcheryError } from '../../core/errors.js';
import { savedLogin, savedLoginFile } from '../access.js';
import { answer, apiClient } from '../api.js';
import { command, type Cli } from '../cli.js';

export const logout = (cli: Cli): Command =>
  command('logout', 'Ends the token of the last login and forgets it.', 'hatchery logout').action(
    async () => {
      const { home, fetch } = cli.world;
      const saved = await savedLogin(home);
      if (saved === undefined) {
        cli.show({ url: null }, () => 'Nobody is signed in.\n');
        return;
      }
      try {
        await answer(signOut({ client: apiClient(saved.url, saved.token, fetch) }));
      } catch (error) {
        // A token that has ended by itself needs no more than to be forgotten.
        if (!(error instanceof HatcheryError) || error.code !== 'not-signed-in') throw error;
      }
      await rm(savedLoginFile(home), { force: true });
      cli.show({ url: saved.url }, () => `Signed out at ${saved.url}.\n`);
    },
  );
