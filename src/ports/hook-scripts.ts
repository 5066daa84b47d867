/** The scripts that administrators registered, by what they are and not by where they lie. */
export interface HookScripts {
  /** `undefined` = no registered script has this SHA-256 (hex): it was changed or taken away, and is not run any more. */
  find(sha256: string): Buffer | undefined;
}
