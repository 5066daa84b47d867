import { describe, expect, it } from 'vitest';
import { differsElsewhere, parseContainerFile } from './container-file.js';

const TEXT = `#CT perso pour Raphael AMATO - cri
#[hatchery v1 vmid=50003] a%3A b %C3%A9
arch: amd64
cores: 4
net0: name=eth0,bridge=vibr285,hwaddr=BC:24:11:B3:C1:3D,type=veth
lxc.idmap: u 0 100000 65536
lxc.idmap = g 0 100000 65536
what is this

[snap]
cores: 2
lxc.idmap: u 0 0 65536
`;

describe('the config file of a container', () => {
  it('is read up to its first section only', () => {
    const file = parseContainerFile(TEXT);
    expect(file.description).toBe('CT perso pour Raphael AMATO - cri\n[hatchery v1 vmid=50003] a: b é');
    expect([...file.keys]).toEqual([
      ['arch', 'amd64'],
      ['cores', '4'],
      ['net0', 'name=eth0,bridge=vibr285,hwaddr=BC:24:11:B3:C1:3D,type=veth'],
    ]);
    expect(file.rawLines).toEqual([
      ['lxc.idmap', 'u 0 100000 65536'],
      ['lxc.idmap', 'g 0 100000 65536'],
    ]);
    expect(file.others).toEqual(['what is this']);
    expect(file.sections).toBe('[snap]\ncores: 2\nlxc.idmap: u 0 0 65536\n');
  });

  it('keeps a description with a stray percent sign as it is', () => {
    expect(parseContainerFile('#100% mine\n').description).toBe('100% mine');
  });

  it.each([
    ['cores: 4', 'cores: 8', 'its key cores'],
    ['arch: amd64\n', '', 'its key arch'],
    ['what is this', 'x y', 'lines that are no keys'],
    ['[snap]\ncores: 2', '[snap]\ncores: 3', 'its snapshots or pending changes'],
    ['Raphael', 'Raffael', 'its description'],
    ['lxc.idmap: u 0 100000 65536\n', '', undefined],
  ])('says what else is different after %j -> %j', (from, to, what) => {
    expect(differsElsewhere(parseContainerFile(TEXT), parseContainerFile(TEXT.replace(from, to)))).toBe(what);
  });
});
