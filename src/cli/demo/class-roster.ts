/**
 * The example class as a roster of `students` rows. Beyond its own size the class repeats with numbered logins
 * (`bandre`, `bandre2`, `bandre3`, ...), always the same ones.
 * Shape: `example` is the CSV text with its header; login and mail are its 1st and 4th column.
 */
export function classRoster(example: string, students: number | undefined): string {
  const [header, ...rows] = example.split(/\r?\n/).filter((line) => line.trim() !== '');
  const wanted = students ?? rows.length;
  const taken = new Set(rows.map(loginOf));
  const made = rows.slice(0, wanted);
  for (let round = 2; made.length < wanted; round += 1) {
    for (const row of rows.slice(0, wanted - made.length)) {
      let login = `${loginOf(row)}${round}`;
      while (taken.has(login)) login += 'x';
      taken.add(login);
      made.push(renamed(row, login, round));
    }
  }
  return [header, ...made, ''].join('\n');
}

const loginOf = (row: string): string => row.split(';')[0]!;

function renamed(row: string, login: string, round: number): string {
  const cells = row.split(';');
  const mail = cells[3]?.replace('@', `.${round}@`) ?? '';
  return [login, cells[1], cells[2], mail, ...cells.slice(4)].join(';');
}
