// Lines over time, drawn as SVG, with axes. What is not known is a gap, never a zero.
import { h } from './dom.js';

function paths(points, from, to, top, width, height, apart = Infinity) {
  const x = (time) => ((time - from) / (to - from || 1)) * width;
  const y = (value) => height - (Math.min(value, top) / (top || 1)) * (height - 2) - 1;
  let trace = '';
  let area = '';
  let run = [];
  let before;
  const flush = () => {
    if (run.length === 0) return;
    const line = run.map(([px, py]) => `${px.toFixed(2)} ${py.toFixed(2)}`);
    trace += `M${line.join('L')}`;
    if (run.length === 1) trace += 'h.5';
    area += `M${run[0][0].toFixed(2)} ${height}L${line.join('L')}L${run[run.length - 1][0].toFixed(2)} ${height}Z`;
    run = [];
  };
  for (const [time, value] of points) {
    // A line over a time without readings would claim what nothing has measured.
    if (value === null || value === undefined || (before !== undefined && time - before > apart)) flush();
    if (value === null || value === undefined) continue;
    run.push([x(time), y(value)]);
    before = time;
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

/** A round number at or above a value: 1, 2 or 5 times a power of the base. */
function round(value, base) {
  if (value <= 0) return base;
  const power = base ** Math.floor(Math.log(value) / Math.log(base));
  const steps = base === 10 ? [1, 2, 2.5, 5, 10] : [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
  return power * (steps.find((step) => step * power >= value * 0.9999) ?? base);
}

/** Times for the axis: round ones, at most five. */
function ticks(from, to) {
  const lengths = [60, 120, 300, 600, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800].map((one) => one * 1000);
  const length = lengths.find((one) => (to - from) / one <= 4) ?? 7 * 86400e3;
  const offset = new Date(to).getTimezoneOffset() * 60e3;
  const all = [];
  for (let at = Math.ceil((from - offset) / length) * length + offset; at <= to; at += length) all.push(at);
  return all;
}

/**
 * A chart with its name, newest and highest value, and both axes. `points`: [milliseconds, value or null]; `top`: the value at
 * the top, such as a limit; `base`: 1024 for bytes; `apart`: milliseconds between readings beyond which there is a gap.
 */
export function chart(name, points, { from, to, show, top = 0, base = 10, apart }) {
  const known = points.filter(([, value]) => value !== null && value !== undefined);
  const head = (now, most) => h('figcaption', { class: 'chart-head' }, h('span', {}, name), h('span', {}, h('strong', {}, now), most && h('span', { class: 'soft small' }, ` peak ${most}`)));
  if (known.length === 0) {
    return h('figure', { class: 'card' }, head('no data'), h('p', { class: 'chart-empty soft', role: 'img', 'aria-label': `${name}: no data` }, 'No readings in this time.'));
  }
  const highest = known.reduce((most, [, value]) => Math.max(most, value), 0);
  const full = top >= highest && top > 0 ? top : round(highest, base);
  const { trace, area } = paths(points, from, to, full, 600, 120, apart);
  const newest = show(known[known.length - 1][1]);
  const long = to - from > 36 * 3600e3;
  const time = (ms) => new Date(ms).toLocaleString('en-GB', long ? { day: 'numeric', month: 'short' } : { hour: '2-digit', minute: '2-digit' });
  const at = ticks(from, to).map((ms) => [((ms - from) / (to - from)) * 600, ms]);
  return h('figure', { class: 'card' }, head(newest, show(highest)),
    h('div', { class: 'plot' },
      h('div', { class: 'y-axis', 'aria-hidden': 'true' }, [full, full / 2, 0].map((value) => h('span', {}, show(value)))),
      h('svg', { class: 'chart', viewBox: '0 0 600 120', preserveAspectRatio: 'none', role: 'img', 'aria-label': `${name}: now ${newest}, at most ${show(highest)}` },
        [0, 0.5, 1].map((part) => h('line', { class: 'grid', x1: 0, x2: 600, y1: 120 * part, y2: 120 * part })),
        at.map(([x]) => h('line', { class: 'grid', x1: x, x2: x, y1: 0, y2: 120 })),
        h('path', { class: 'area', d: area }), h('path', { class: 'trace', d: trace })),
      // Without a view box, so that texts keep their shape and stand below their lines.
      h('svg', { class: 'x-axis', 'aria-hidden': 'true' }, at.map(([x, ms]) => h('text', { x: `${(x / 6).toFixed(2)}%`, y: '1em', 'text-anchor': x < 60 ? 'start' : x > 540 ? 'end' : 'middle' }, time(ms))))));
}
