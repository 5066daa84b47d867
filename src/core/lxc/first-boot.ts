import { z } from 'zod';
import { accountName } from '../account-name.js';
import { HatcheryError } from '../errors.js';

/** Names in Debian's archive. */
const packageName = z.string().regex(/^[a-z0-9][a-z0-9+.-]{1,127}$/, 'write the name of a Debian package');

/** What our own start hook does in a new container, as a blueprint says it. */
export const firstBootSchema = z.strictObject({
  /** Upgrades what the template or archive brought. */
  update: z.boolean().default(true),
  packages: z.array(packageName).max(200).default([]),
  /** Joins this domain (an `active-directory` service), so that its users can sign in. */
  domain: z.string().optional(),
  /** Lets only the owner and these sign in, besides root; left out = whoever has an account there. */
  signIn: z.strictObject({ admins: z.array(accountName).max(50).default([]) }).optional(),
});
export type FirstBoot = z.infer<typeof firstBootSchema>;

/** The join account of a domain. */
export interface DomainJoin {
  readonly realm: string;
  readonly user: string;
  readonly password: string;
}

/**
 * The argument file of `hooks/first-boot.sh`: one JSON object. The script reads names and values, never code.
 * Errors: `request-invalid` for a login that cannot be a name of an account.
 */
export function firstBootArguments(
  { update, packages, signIn }: FirstBoot,
  machine: { readonly mac: string; readonly login: string },
  domain: DomainJoin | undefined,
): object {
  if (signIn && !accountName.safeParse(machine.login).success)
    throw new HatcheryError(
      'request-invalid',
      `Unable to let only ${JSON.stringify(machine.login)} sign in: it is no name of an account`,
      { hint: 'A login has letters without accents, digits, dots, hyphens and underscores.' },
    );
  return {
    version: 1,
    mac: machine.mac.toLowerCase(),
    update,
    packages,
    ...(domain && { realm: domain.realm, joinUser: domain.user, joinPassword: domain.password }),
    ...(signIn && { owner: machine.login, admins: signIn.admins }),
  };
}
