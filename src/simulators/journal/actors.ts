/** Administrators and other people; whoever else writes is a deployment of the product. */
const NOT_OURS = [/^root@/, /^foreign[:-]/, /^simulator$/, /^anonymous$/, /^guacadmin$/, /\\Administrator$/i];

export function isDeployment(actor: string | undefined): actor is string {
  return actor !== undefined && !NOT_OURS.some((pattern) => pattern.test(actor));
}
