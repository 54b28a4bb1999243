// All workspaces, live: state, CPU, memory, and what can be done.
import { action, badge, bytes, fill, h, percent, refill, table, when } from '../dom.js';
import { pages, post, session, workspace } from '../api.js';
import { spark } from '../chart.js';

/** Readings that a small line shows. */
const KEPT = 60;

/** Signals by number: an exit code above 128 names one. */
const SIGNALS = { 1: 'SIGHUP', 2: 'SIGINT', 3: 'SIGQUIT', 4: 'SIGILL', 6: 'SIGABRT', 7: 'SIGBUS', 8: 'SIGFPE', 9: 'SIGKILL', 11: 'SIGSEGV', 13: 'SIGPIPE', 14: 'SIGALRM', 15: 'SIGTERM', 24: 'SIGXCPU', 31: 'SIGSYS' };
/** Exit codes of an end that was asked for: SIGINT and SIGTERM. */
const ASKED = [130, 143];

/** Notes what an event says about the end of a workspace: `ends` has the events of each since its last start. */
export function note(ends, event) {
  if (event.what === 'started') ends.set(event.workspace, []);
  else if (['exited', 'stopped', 'signalled', 'out-of-memory'].includes(event.what)) ends.set(event.workspace, [...(ends.get(event.workspace) ?? []), event.what].slice(-8));
}

/** How a workspace ended: `stopped` on purpose, `killed`, out of `memory`, `crashed` or `finished`; none if it did not. */
export function ending(view, ends) {
  if (view.state !== 'exited' && view.state !== 'dead') return undefined;
  const seen = ends?.get(view.id) ?? [];
  if (view.oom_killed || seen.includes('out-of-memory')) return 'memory';
  if (view.stopped || seen.includes('stopped') || (seen.length === 0 && ASKED.includes(view.exit_code))) return 'stopped';
  if (seen.includes('signalled')) return 'killed';
  return view.exit_code ? 'crashed' : 'finished';
}

/** Says why a workspace ended, in a sentence. */
export function reason(view, ends) {
  const code = view.exit_code;
  const signal = code > 128 ? SIGNALS[code - 128] ?? `signal ${code - 128}` : undefined;
  switch (ending(view, ends)) {
    case 'memory': return `The kernel killed it: it used more memory than its limit (exit code ${code}).`;
    case 'stopped': return view.stopped ? `Wharf stopped it, because it was ${view.stopped}.` : 'It was stopped on request.';
    case 'killed': return `It was ended by a signal on request${signal ? ` (${signal})` : ''}.`;
    case 'finished': return 'Its command ended by itself, without an error (exit code 0).';
    case 'crashed':
      if (signal) return `It was ended by ${signal} (exit code ${code}), and not by Wharf.`;
      if (code === 126) return 'Its command cannot be executed (exit code 126): check its mode and its interpreter.';
      if (code === 127) return 'Its command was not found (exit code 127): check the command and the image.';
      return `Its command failed with exit code ${code}.`;
    default: return undefined;
  }
}

export function state(view, ends) {
  const end = ending(view, ends);
  const [word, kind] = end
    ? { memory: ['out of memory', 'bad'], stopped: ['stopped', undefined], killed: ['killed', undefined], finished: ['finished', undefined], crashed: [`crashed (${view.exit_code})`, 'bad'] }[end]
    : [view.state, { running: 'good', paused: 'warn', missing: 'bad', restarting: 'warn' }[view.state]];
  const words = [badge(word, kind)];
  if (view.health && view.state === 'running') words.push(' ', badge(view.health));
  if (view.stopped) words.push(' ', badge(view.stopped));
  if (view.degraded) words.push(' ', badge('degraded', 'bad'));
  return words;
}

export const link = (id, what = '') => `#/workspace/${encodeURIComponent(id)}${what && `/${what}`}`;

/** The verbs that make sense in a state. */
export function verbs(view, after) {
  if (!session.may('operator')) return [];
  const verb = (label, name, done, extra = {}) => action(label, async () => { await post(workspace(view.id, name), {}); await after(); },
    { done: `${view.id} ${done}`, kind: 'small', ...extra });
  if (view.state === 'running') return [verb('Stop', 'stop', 'is stopped'), ' ', verb('Restart', 'restart', 'is restarted')];
  if (view.state === 'paused') return [verb('Unpause', 'unpause', 'is resumed')];
  if (view.state === 'missing') return [];
  return [verb('Start', 'start', 'is started')];
}

export async function all(place, rest, page) {
  const [first, past] = await Promise.all([pages('/v1/workspaces?limit=1000'), pages('/v1/events?since=30d&limit=1000', 5000, true).catch(() => [])]);
  let list = first;
  const ends = new Map();
  for (const event of past) note(ends, event);
  const usage = new Map();
  const find = h('input', { type: 'search', placeholder: 'Name, image, label=value', 'aria-label': 'Filter workspaces', oninput: () => draw() });
  const count = h('span', { class: 'soft', role: 'status' });
  const body = h('div');
  fill(place, h('h1', {}, 'Workspaces'), h('div', { class: 'bar' }, find, h('span', { class: 'space' }), count,
    session.may('operator', true) && h('a', { class: 'button main', href: '#/new' }, 'New workspace')), body);

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
        state(view, ends), h('code', {}, view.image), ...(view.state === 'running' ? [cell.cpu, cell.memory] : ['', '']),
        (view.ports ?? []).map((port) => h('div', { class: 'mono' }, `${port.address}:${port.port} → ${port.container_port}`)),
        when(view.created_at), verbs(view, refresh),
      ];
    });
    // Focus stays where it was when the table is drawn anew.
    refill(body, table('All workspaces', ['Workspace', 'State', 'Image', 'CPU', ['Memory', 'tight'], 'Ports', 'Created', ['Actions', 'tight']], rows,
      list.length === 0 ? ['There are no workspaces. ', session.may('operator', true) ? [h('a', { href: '#/new' }, 'Create one'), ', or run ‘wharf up’ in a project.'] : 'Create one with ‘wharf up’ in a project.'] : 'No workspace matches.'));
  }

  function paint(id) {
    const cell = cells.get(id);
    const seen = usage.get(id);
    if (!cell || !seen || list.find((view) => view.id === id)?.state !== 'running') return;
    const last = seen[seen.length - 1];
    fill(cell.cpu, spark(seen.map((one) => one.cpu_percent), 100), h('span', { class: 'small' }, percent(last.cpu_percent)));
    fill(cell.memory, spark(seen.map((one) => one.memory_used), last.memory_limit), h('span', { class: 'small' }, bytes(last.memory_used), last.memory_limit ? h('span', { class: 'soft' }, ` of ${bytes(last.memory_limit)}`) : null));
  }

  draw();
  let timer;
  const soon = () => { clearTimeout(timer); timer = setTimeout(() => refresh().catch(() => {}), 250); };
  const closing = [
    page.follow('/v1/events', { message: (event) => { note(ends, event); soon(); }, gap: soon }),
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
  return () => { clearTimeout(timer); closing.forEach((end) => end()); };
}
