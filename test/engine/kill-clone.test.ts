import { killAtEveryPoint } from './kill-points.js';

killAtEveryPoint('clone');
