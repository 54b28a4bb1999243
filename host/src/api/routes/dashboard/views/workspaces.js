// All workspaces, live: state, CPU, memory, and what can be done.
import { action, badge, bytes, fill, h, percent, refill, table, when } from '../dom.js';
import { get, pages, post, workspace } from '../api.js';
import { spark } from '../chart.js';

/** Readings that a small line shows. */
const KEPT = 60;

export function state(view) {
  const words = [badge(view.exit_code === null || view.exit_code === undefined ? view.state : `${view.state} (${view.exit_code})`,
    view.exit_code ? 'bad' : { running: 'good', paused: 'warn', missing: 'bad', dead: 'bad', restarting: 'warn' }[view.state])];
  if (view.health) words.push(' ', badge(view.health));
  if (view.stopped) words.push(' ', badge(view.stopped));
  if (view.degraded) words.push(' ', badge('degraded', 'bad'));
  return words;
}

export const link = (id, what = '') => `#/workspace/${encodeURIComponent(id)}${what && `/${what}`}`;

/** The verbs that make sense in a state. */
export function verbs(view, after) {
  const verb = (label, name, done, extra = {}) => action(label, async () => { await post(workspace(view.id, name), {}); await after(); },
    { done: `${view.id} ${done}`, kind: 'small', ...extra });
  if (view.state === 'running') return [verb('Stop', 'stop', 'is stopped'), ' ', verb('Restart', 'restart', 'is restarted')];
  if (view.state === 'paused') return [verb('Unpause', 'unpause', 'is resumed')];
  if (view.state === 'missing') return [];
  return [verb('Start', 'start', 'is started')];
}

export async function all(place, rest, page) {
  let list = await pages('/v1/workspaces?limit=1000');
  const usage = new Map();
  const find = h('input', { type: 'search', placeholder: 'Name, image, label=value', 'aria-label': 'Filter workspaces', oninput: () => draw() });
  const count = h('span', { class: 'soft', role: 'status' });
  const body = h('div');
  fill(place, h('h1', {}, 'Workspaces'), h('div', { class: 'bar' }, find, h('span', { class: 'space' }), count), body);

  const matches = (view) => {
    const wanted = find.value.trim().toLowerCase();
    if (!wanted) return true;
    const labels = Object.entries(view.labels ?? {}).map(([name, value]) => `${name}=${value}`);
    return [view.id, view.name, view.image, view.project, view.state, ...labels].some((text) => text?.toLowerCase().includes(wanted));
  };
  const refresh = async () => { list = await pages('/v1/workspaces?limit=1000'); draw(); };
  const cells = new Map();

  function draw() {
    cells.clear();
    const some = list.filter(matches);
    count.textContent = `${some.length === list.length ? list.length : `${some.length} of ${list.length}`} workspace${list.length === 1 ? '' : 's'}, ${list.filter((view) => view.state === 'running').length} running`;
    const rows = some.map((view) => {
      const cell = { cpu: h('div'), memory: h('div') };
      cells.set(view.id, cell);
      paint(view.id);
      return [
        [h('a', { href: link(view.id) }, h('strong', {}, view.name)), view.part_of && h('span', { class: 'soft small' }, ` part of ${view.part_of}`), h('div', { class: 'soft small mono' }, view.id)],
        state(view), h('code', {}, view.image), cell.cpu, cell.memory,
        (view.ports ?? []).map((port) => h('div', { class: 'mono' }, `${port.address}:${port.port} → ${port.container_port}`)),
        when(view.created_at), verbs(view, refresh),
      ];
    });
    // Focus stays where it was when the table is drawn anew.
    refill(body, table('All workspaces', ['Workspace', 'State', 'Image', 'CPU', 'Memory', 'Ports', 'Created', 'Actions'], rows,
      list.length === 0 ? 'There are no workspaces. Create one with ‘wharf up’ in a project.' : 'No workspace matches.'));
  }

  function paint(id) {
    const cell = cells.get(id);
    const seen = usage.get(id);
    if (!cell || !seen) return;
    const last = seen[seen.length - 1];
    fill(cell.cpu, spark(seen.map((one) => one.cpu_percent), 100), h('span', { class: 'small' }, percent(last.cpu_percent)));
    fill(cell.memory, spark(seen.map((one) => one.memory_used), last.memory_limit), h('span', { class: 'small' }, bytes(last.memory_used), last.memory_limit ? h('span', { class: 'soft' }, ` of ${bytes(last.memory_limit)}`) : null));
  }

  draw();
  let timer;
  const soon = () => { clearTimeout(timer); timer = setTimeout(() => refresh().catch(() => {}), 250); };
  const ends = [
    page.follow('/v1/events', { message: soon, gap: soon }),
    page.follow('/v1/stats', {
      message: (readings) => {
        for (const reading of readings) {
          const seen = usage.get(reading.id) ?? [];
          seen.push(reading);
          usage.set(reading.id, seen.slice(-KEPT));
          paint(reading.id);
        }
      },
    }),
  ];
  return () => { clearTimeout(timer); ends.forEach((end) => end()); };
}
