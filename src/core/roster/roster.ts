/** One person of a roster, checked and normalised. */
export interface RosterRow {
  /** As the spreadsheet shows it: the header is row 1. */
  readonly row: number;
  /** As written, without surrounding spaces, in Unicode form NFC. */
  readonly login: string;
  /** Equal for logins that differ only by case or accents: lower-case, plain letters. */
  readonly loginKey: string;
  readonly lastName: string;
  readonly firstName: string;
  readonly email?: string;
  readonly group?: string;
  /** `type base64 comment`, without options. */
  readonly sshKeys: readonly string[];
}
