// Lines over time, drawn as SVG. What is not known is a gap, never a zero.
import { h } from './dom.js';

function paths(points, from, to, top, width, height) {
  const x = (time) => ((time - from) / (to - from || 1)) * width;
  const y = (value) => height - (Math.min(value, top) / (top || 1)) * (height - 2) - 1;
  let trace = '';
  let area = '';
  let run = [];
  const flush = () => {
    if (run.length === 0) return;
    const line = run.map(([px, py]) => `${px.toFixed(2)} ${py.toFixed(2)}`);
    trace += `M${line.join('L')}`;
    if (run.length === 1) trace += 'h.5';
    area += `M${run[0][0].toFixed(2)} ${height}L${line.join('L')}L${run[run.length - 1][0].toFixed(2)} ${height}Z`;
    run = [];
  };
  for (const [time, value] of points) {
    if (value === null || value === undefined) flush();
    else run.push([x(time), y(value)]);
  }
  flush();
  return { trace, area };
}

/** A small line without axes; the newest at the right. */
export function spark(values, top) {
  const points = values.map((value, index) => [index, value]);
  const known = values.filter((value) => value !== null && value !== undefined);
  const { trace, area } = paths(points, 0, Math.max(values.length - 1, 1), Math.max(top ?? 0, ...known, 1e-9), 100, 24);
  return h('svg', { class: 'spark', viewBox: '0 0 100 24', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    h('path', { class: 'area', d: area }), h('path', { class: 'trace', d: trace }));
}

/** A chart with its name, newest and highest value, from and to. `points`: [milliseconds, value or null]. */
export function chart(name, points, { from, to, show, top = 0 }) {
  const known = points.filter(([, value]) => value !== null && value !== undefined);
  const highest = known.reduce((most, [, value]) => Math.max(most, value), 0);
  const full = Math.max(top, highest, 1e-9);
  const { trace, area } = paths(points, from, to, full, 600, 120);
  const newest = known.length ? show(known[known.length - 1][1]) : 'no data';
  const label = `${name}: now ${newest}, at most ${show(highest)}`;
  const time = (ms) => new Date(ms).toLocaleString('en-GB', to - from > 36 * 3600e3 ? { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' } : { hour: '2-digit', minute: '2-digit' });
  return h('figure', { class: 'card' },
    h('figcaption', { class: 'chart-head' }, h('span', {}, name), h('span', {}, h('strong', {}, newest), h('span', { class: 'soft small' }, ` up to ${show(full)}`))),
    h('svg', { class: 'chart', viewBox: '0 0 600 120', preserveAspectRatio: 'none', role: 'img', 'aria-label': label },
      [0.25, 0.5, 0.75].map((part) => h('line', { class: 'grid', x1: 0, x2: 600, y1: 120 * part, y2: 120 * part })),
      h('path', { class: 'area', d: area }), h('path', { class: 'trace', d: trace })),
    h('div', { class: 'axis' }, h('span', {}, time(from)), h('span', {}, time(to))));
}
