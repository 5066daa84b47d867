/** Sizes beyond which a roster is refused before it is read any further. */
export const ROSTER_LIMITS = {
  csvBytes: 2 * 1024 * 1024,
  xlsxBytes: 5 * 1024 * 1024,
  xlsxUnpackedBytes: 50 * 1024 * 1024,
  /** Of one part, e.g. the sheet. */
  xlsxPartBytes: 16 * 1024 * 1024,
  xlsxEntries: 1000,
  /** Empty but formatted cells included. */
  sheetCells: 250_000,
  /** People; the header and blank rows are not counted. */
  rows: 2000,
  /** Lines of a CSV file, empty ones and those of only separators included. */
  csvLines: 50_000,
  /** Highest row of a sheet that may hold a value. */
  lastSheetRow: 10_000,
  columns: 64,
  cellCharacters: 1000,
  /** A public key of 16,384 bits has 2,750 characters. */
  sshKeyCharacters: 4096,
} as const;
