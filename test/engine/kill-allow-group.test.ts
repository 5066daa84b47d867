import { killWithGroup } from './kill-points.js';

killWithGroup('allow-mac');
