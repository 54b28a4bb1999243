// One workspace: what it uses, its logs, a terminal, what happened, and why it is what it is.
import { action, badge, bytes, clock, facts, fill, h, percent, problem, table, value, when } from '../dom.js';
import { follow, get, pages, post, remove, session, workspace } from '../api.js';
import { chart } from '../chart.js';
import { Terminal } from '../terminal.js';
import { ending, link, note, reason, state, verbs } from './workspaces.js';

const TABS = [['', 'Overview'], ['logs', 'Logs'], ['terminal', 'Terminal'], ['events', 'Events'], ['why', 'Why']];
/** Lines that the log keeps on the page. */
const LINES = 5000;
/** Lines that the overview shows of a workspace that ended. */
const TAIL = 30;
/** Longest line, in characters; of one that never ends the rest is another one. */
const LONGEST = 65_536;

export async function one(place, [id, tab = ''], page) {
  let view = await get(workspace(id));
  const ends = new Map();
  for (const event of await pages(`/v1/events?workspace=${encodeURIComponent(view.id)}&since=30d&limit=1000`, 5000, true).catch(() => [])) note(ends, event);
  page.title(view.name);
  const head = h('div');
  const body = h('div');
  /** What a tab draws anew when the workspace has changed. */
  let changed = () => {};
  const refresh = async () => { view = await get(workspace(id)); draw(); changed(); };
  const draw = () => fill(head,
    h('h1', {}, view.name, ' ', h('span', { class: 'small' }, state(view, ends))),
    h('div', { class: 'bar' }, h('span', { class: 'soft mono' }, view.id), h('span', { class: 'space' }), verbs(view, refresh),
      session.may('operator') && view.state === 'running' && action('Pause', async () => { await post(workspace(id, 'pause')); await refresh(); }, { kind: 'small' }),
      session.may('operator') && action('Remove', async () => { await remove(`${workspace(id)}?force=true`); location.hash = '#/'; },
        { kind: 'small danger', done: `${view.id} is removed`, confirm: `Remove ${view.id}? Its writable layer is lost.` })),
    h('nav', { class: 'tabs', 'aria-label': 'Sections of this workspace' }, TABS.filter(([name]) => name !== 'terminal' || session.may('operator')).map(([name, label]) =>
      h('a', { href: link(id, name), 'aria-current': name === tab ? 'page' : undefined }, label))));
  draw();
  fill(place, head, body);
  const shows = { '': overview, logs, terminal, events, why };
  const end = await (shows[tab] ?? overview)(body, () => view, page, (what) => { changed = what; }, ends);
  let timer;
  const soon = () => { clearTimeout(timer); timer = setTimeout(() => refresh().catch((error) => { if (error.status === 404) fill(body, problem(error)); }), 250); };
  const events_end = page.follow(`/v1/events?workspace=${encodeURIComponent(view.id)}`, { message: (event) => { note(ends, event); soon(); }, gap: soon });
  return () => { clearTimeout(timer); events_end(); end?.(); };
}

const RANGES = [['10m', 'Ten minutes', 600], ['1h', 'Hour', 3600], ['24h', 'Day', 86400], ['7d', 'Week', 7 * 86400], ['30d', 'Month', 30 * 86400]];

/** The last lines that a workspace wrote, and why it ended. */
function ended(view, ends) {
  const end = ending(view, ends);
  if (!end) return { box: null, close: () => {} };
  const tail = h('pre', { class: 'tail', tabindex: 0, 'aria-label': 'Last lines' });
  const none = h('p', { class: 'small soft' }, 'It wrote nothing.');
  const close = follow(`${workspace(view.id, 'logs')}?tail=${TAIL}`, {
    message: (line) => { none.remove(); tail.append(h('span', { class: line.stream === 'stderr' ? 'stderr' : undefined }, `${plain(line.message)}${line.partial ? '' : '\n'}`)); tail.scrollTop = tail.scrollHeight; },
  });
  const box = h('section', { class: `card ended ${end === 'memory' || end === 'crashed' ? 'bad' : ''}` }, h('h2', {}, 'Why it ended'), h('p', {}, reason(view, ends), ' ', view.finished_at && h('span', { class: 'soft' }, when(view.finished_at))),
    h('div', {}, h('span', { class: 'small soft' }, 'Last lines of its output; '), h('a', { class: 'small', href: link(view.id, 'logs') }, 'all logs')), tail, none);
  return { box, close };
}

async function overview(place, current, page, whenChanged, ends) {
  const view = current();
  const charts = h('div', { class: 'cards charts', 'aria-label': 'Usage over time' });
  let range = RANGES[0];
  let history = [];
  let loaded = 0;
  const fresh = [];
  const pick = h('select', { 'aria-label': 'Time shown', onchange: async () => { range = RANGES[pick.selectedIndex]; await load(); } },
    RANGES.map(([, label]) => h('option', {}, label)));
  const load = async () => {
    const wanted = range;
    loaded = Date.now();
    const found = await get(`${workspace(view.id, 'metrics')}?since=${wanted[0]}`);
    if (wanted !== range) return;
    history = found;
    draw();
  };
  const draw = () => {
    const to = Date.now();
    const from = to - range[2] * 1000;
    const rows = history.map((point) => [Date.parse(point.time), point]);
    const begin = rows.length ? rows[rows.length - 1][0] : 0;
    const live = range[2] <= 3600 ? fresh.filter(([time]) => time > begin) : [];
    const of = (key, own = key) => [...rows.map(([time, point]) => [time, point[key]]), ...live.map(([time, point]) => [time, point[own]])].filter(([time]) => time >= from);
    const limit = [...rows, ...live].reduce((found, [, point]) => point.memory_limit ?? found, 0);
    // Readings are a second or a metrics interval apart; where more than three are missing, nothing was measured.
    const apart = Math.max(15_000, 3 * Math.min(...rows.slice(1).map(([time], index) => time - rows[index][0]), range[2] * 1000));
    const frame = { from, to, apart };
    fill(charts,
      chart('CPU', of('cpu_percent'), { ...frame, show: percent, top: 100 }),
      chart('Memory', of('memory_used'), { ...frame, show: bytes, top: limit, base: 1024 }),
      chart('Network in', of('network_rx_per_second', 'none'), { ...frame, show: (rate) => `${bytes(rate)}/s`, base: 1024 }),
      chart('Disk write', of('block_write_per_second', 'none'), { ...frame, show: (rate) => `${bytes(rate)}/s`, base: 1024 }));
  };
  const is = h('section', { class: 'card' });
  const asked = h('div');
  const last = h('div');
  let shown;
  let close = () => {};
  const tell = () => {
    const now = current();
    // Only a new end asks for the last lines again.
    const run = `${now.state} ${now.container_id} ${now.finished_at} ${ending(now, ends)}`;
    if (run !== shown) {
      shown = run;
      close();
      const end = ended(now, ends);
      close = end.close;
      fill(last, end.box);
    }
    const ports = (now.ports ?? []).map((port) => h('div', { class: 'mono' }, `${port.address}:${port.port} → ${port.container_port}/${port.protocol}`));
    const labels = Object.entries(now.labels ?? {}).map(([name, text]) => h('div', { class: 'mono' }, `${name}=${text}`));
    fill(is, h('h2', {}, 'Details'), facts([
      ['Project', h('code', {}, now.project)], ['Image', h('code', {}, now.image)],
      ['Image digest', now.image_digest && h('code', {}, now.image_digest)],
      ['Container', now.container_id && h('code', {}, now.container_id.slice(0, 12))], ['Created', when(now.created_at)], ['Started', now.started_at && when(now.started_at)],
      ['Stopped', now.state !== 'running' && now.finished_at && when(now.finished_at)], ['Ports', ports.length ? ports : null], ['Labels', labels.length ? labels : null],
      ['Disk', now.disk && `${now.disk.used ?? '–'} of ${bytes(now.disk.limit)} (${now.disk.mode})`], ['Degraded', now.degraded],
      ['Notes', now.notes?.length ? now.notes.map((note) => h('div', {}, note)) : null],
    ]));
    fill(asked, trail(now.trail));
  };
  tell();
  whenChanged(tell);
  fill(place, last, is, h('div', { class: 'bar' }, h('h2', {}, 'Usage'), h('span', { class: 'space' }), h('label', {}, 'Time ', pick)), charts, h('h2', {}, 'Decisions'), asked);
  await load();
  const stop = page.follow(workspace(view.id, 'stats'), {
    message: (readings) => {
      for (const reading of [readings].flat().filter((reading) => reading.id === view.id && reading.read_at)) fresh.push([Date.parse(reading.read_at), reading]);
      fresh.splice(0, Math.max(0, fresh.length - 4000));
      draw();
      // What is only in the history, such as rates, would leave the picture. One that fails is asked for again.
      if (Date.now() - loaded > 60_000) load().catch(() => {});
    },
  });
  return () => { stop(); close(); };
}

/** One line per policy. */
export function trail(steps) {
  return table('Steps of the policies', ['Hook', 'Policy', 'Verdict', 'Fields', 'Details', ['µs', 'number']], steps.map((step) => [
    step.hook, [step.policy, ' ', h('span', { class: 'soft small' }, step.kind)], [badge(step.verdict, { deny: 'bad', error: 'bad', adjust: 'good', act: 'good' }[step.verdict]), step.mode !== 'enforce' && [' ', badge(step.mode ?? 'enforce')]],
    step.fields?.length ? h('code', {}, step.fields.join(', ')) : '', step.detail ?? '', String(step.microseconds),
  ]), 'No policy was asked.');
}

async function logs(place, current, page) {
  const view = current();
  const follow = h('input', { type: 'checkbox', checked: true });
  const times = h('input', { type: 'checkbox', onchange: () => box.classList.toggle('times', times.checked) });
  const find = h('input', { type: 'search', placeholder: 'Only lines with …', 'aria-label': 'Only lines with this text', oninput: () => { for (const line of box.children) line.hidden = !matches(line.dataset.text ?? ''); } });
  const box = h('div', { class: 'log', role: 'log', 'aria-live': 'off', 'aria-label': `Log of ${view.name}`, tabindex: 0 });
  const matches = (text) => !find.value || text.toLowerCase().includes(find.value.toLowerCase());
  fill(place, h('div', { class: 'bar' }, h('label', {}, follow, 'Follow'), h('label', {}, times, 'Timestamps'), find), box);
  let waiting = [];
  let open;
  const draw = () => {
    const some = waiting;
    waiting = [];
    for (const line of some) {
      if (line.mark) { open = undefined; box.append(h('div', { class: 'mark' }, line.mark)); continue; }
      const key = `${line.container_id}/${line.stream}`;
      if (open?.key === key && open.element.dataset.text.length < LONGEST) {
        open.element.lastChild.textContent += plain(line.message);
        open.element.dataset.text += line.message;
        open.element.hidden = !matches(open.element.dataset.text);
      } else {
        const element = h('div', { class: line.stream === 'stderr' ? 'stderr' : undefined, 'data-text': line.message },
          h('span', { class: 'time', hidden: !times.checked }, line.time ? `${new Date(line.time).toISOString()} ` : ''), h('span', {}, plain(line.message)));
        element.hidden = !matches(line.message);
        box.append(element);
        open = { key, element };
      }
      if (!line.partial) open = undefined;
    }
    for (const line of box.querySelectorAll('.time')) line.hidden = !times.checked;
    while (box.childElementCount > LINES) box.firstChild.remove();
    if (follow.checked) box.scrollTop = box.scrollHeight;
  };
  times.addEventListener('change', draw);
  const take = (line) => { waiting.push(line); if (waiting.length > LINES) waiting.shift(); if (waiting.length === 1) requestAnimationFrame(draw); };
  return page.follow(`${workspace(view.id, 'logs')}?follow=true&tail=1000&timestamps=true`, {
    message: take,
    interrupted: (what) => take({ mark: `— interrupted${what?.cause ? `: ${what.cause}` : ''} —` }),
    resumed: (what) => take({ mark: what?.lost ? '— resumed; lines may be missing here —' : '— resumed —' }),
    gap: () => take({ mark: '— lines may be missing here —' }),
    problem: (what) => take({ mark: `— ${what.detail} —` }),
    end: () => take({ mark: '— end of the log —' }),
  });
}

/** Colours and other sequences of a log are for terminals. */
const plain = (text) => text.replace(/\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f]/g, '');

async function terminal(place, current) {
  const view = current();
  const box = h('div', { class: 'terminal' });
  const command = h('input', { type: 'text', value: '/bin/sh', 'aria-label': 'Command' });
  const user = h('input', { type: 'text', placeholder: 'user', 'aria-label': 'User', size: 8 });
  const say = h('span', { class: 'soft', role: 'status' });
  let socket;
  let screen;
  const close = () => { socket?.close(); screen?.close(); };
  const begin = h('button', { type: 'button', class: 'main', onclick: () => run() }, 'Open');
  fill(place, h('div', { class: 'bar' }, h('label', {}, 'Command ', command), user, begin, say), box,
    h('p', { class: 'soft small' }, 'Press Ctrl+Shift+Escape to leave the terminal. Commands are recorded, and policies decide about them.'));
  function run() {
    close();
    const encoder = new TextEncoder();
    const send = (text) => {
      if (socket?.readyState !== WebSocket.OPEN) return;
      const bytes = encoder.encode(text);
      const frame = new Uint8Array(bytes.length + 1);
      frame.set(bytes, 1);
      socket.send(frame);
    };
    screen = new Terminal(box, { send, resized: (rows, cols) => { if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ resize: { rows, cols } })); } });
    const address = new URL(workspace(view.id, 'exec'), location.href);
    address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:';
    const mine = new WebSocket(address);
    socket = mine;
    mine.binaryType = 'arraybuffer';
    say.textContent = 'opening…';
    mine.onopen = () => {
      const words = command.value.trim().split(/\s+/);
      mine.send(JSON.stringify({ command: words, tty: true, stdin: true, env: { TERM: 'xterm-256color' }, rows: screen.screen.rows, cols: screen.screen.columns, ...(user.value && { user: user.value }) }));
      say.textContent = 'connected';
      screen.input.focus();
    };
    mine.onmessage = ({ data }) => {
      if (socket !== mine) return;
      if (data instanceof ArrayBuffer) { screen.write(new Uint8Array(data, 1)); return; }
      const what = JSON.parse(data);
      if ('exit_code' in what) say.textContent = `exited with ${what.exit_code}`;
      else if (what.detail) { say.textContent = ''; box.before(problem({ message: what.detail, remedy: what.remedy })); }
    };
    mine.onclose = () => { if (socket === mine && (say.textContent === 'connected' || say.textContent === 'opening…')) say.textContent = 'closed'; };
  }
  if (view.state !== 'running') { begin.disabled = true; fill(box, `${view.id} is ${view.state}: start it to open a terminal.`); }
  return close;
}

async function events(place, current, page) {
  const view = current();
  const of = `/v1/events?workspace=${encodeURIComponent(view.id)}`;
  let all = await pages(`${of}&since=30d&limit=1000`, 5000, true);
  const draw = () => fill(place, eventTable(all.slice(-500).reverse(), false));
  draw();
  return page.follow(of, { message: (event) => { all.push(event); all = all.slice(-5000); draw(); } });
}

/** Events, newest first. */
export function eventTable(list, named = true) {
  // The engine tells of a stop on request after the end itself.
  const asked = (event, index) => list.slice(Math.max(0, index - 3), index).some((later) => later.workspace === event.workspace && later.what === 'stopped');
  const kind = (event, index) => ({ started: 'good', healthy: 'good', recovered: 'good', unhealthy: 'bad', 'out-of-memory': 'bad', 'given-up': 'bad' }[event.what] ?? (event.exit_code && !asked(event, index) ? 'bad' : undefined));
  const rows = list.map((event, index) => [clock(event.time), when(event.time),
    named && h('a', { href: link(event.workspace) }, event.workspace),
    [badge(event.what, kind(event, index)),
      event.exit_code !== null && event.exit_code !== undefined ? ` (${event.exit_code})` : ''],
    event.detail ?? '', h('code', {}, (event.container_id ?? '').slice(0, 12))].filter((cell) => cell !== false));
  return table('Events, newest first', ['Time', 'When', ...(named ? ['Workspace'] : []), 'Event', 'Details', 'Container'], rows, 'No events so far.');
}

async function why(place, current) {
  const view = current();
  const found = await get(workspace(view.id, 'why'));
  const find = h('input', { type: 'search', placeholder: 'Field, policy, value', 'aria-label': 'Filter fields', oninput: () => draw() });
  const set = h('input', { type: 'checkbox', checked: true, onchange: () => draw() });
  const body = h('div');
  const matches = ([name, field]) => (!set.checked || field.owner !== 'default' || field.history.length > 1 || field.bound?.reached || field.waiver)
    && (!find.value || JSON.stringify([name, field.value, field.owner, field.history.map((step) => step.by)]).toLowerCase().includes(find.value.toLowerCase()));
  const by = (owner) => `${owner.policy}${owner.at ? ` (${owner.at})` : ''}`;
  const step = (one, name) => h('li', { class: one.overruled_by ? 'over' : undefined }, value(one.value, name), ` by ${by(one.by)}`, one.hook ? ` at ${one.hook}` : '',
    one.overruled_by && h('span', {}, ` — overruled by ${one.overruled_by}`));
  const draw = () => fill(body, table('Each field of its spec, and the policy that set it', ['Field', ['Value', 'whole'], 'Set by', ['History', 'whole']],
    Object.entries(found.fields).filter(matches).map(([name, field]) => [
      h('code', {}, name), value(field.value, name), badge(field.owner, ['default', 'project', 'config', 'request'].includes(field.owner) ? undefined : 'good'),
      [field.history.length ? h('ol', { class: 'chain' }, field.history.map((one) => step(one, name))) : h('span', { class: 'soft small' }, 'default'),
        field.bound && (field.bound.reached || field.bound.violated) && h('div', { class: 'small' }, `the most that ${field.bound.setting} = ${JSON.stringify(field.bound.allows)} allows (${field.bound.origin})`),
        field.waiver && h('div', { class: 'small' }, `waived: ${field.waiver}`)],
    ]), find.value ? 'No field matches.' : 'Every field has its default.'));
  draw();
  const records = found.records ?? [];
  fill(place, h('div', { class: 'bar' }, find, h('label', {}, set, 'Hide defaults')), body,
    h('h2', {}, 'Steps of the policies'), trail(found.trail ?? view.trail),
    records.length > 0 && h('p', {}, 'Decision records: ', records.map((record, index) => [index ? ', ' : '', record.number === null ? h('span', { class: 'soft' }, 'pruned') : h('a', { href: `#/decisions/${record.number}` }, `#${record.number}`)])));
}
