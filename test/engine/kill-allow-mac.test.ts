import { killAtEveryPoint } from './kill-points.js';

killAtEveryPoint('allow-mac');
