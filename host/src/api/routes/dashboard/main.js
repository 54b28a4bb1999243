// The frame: which view is shown, the session, colours, and whether the page is live.
import { ago, fill, h, notice } from './dom.js';
import { Problem, follow, get, post, remove, session } from './api.js';
import { cleanup } from './views/cleanup.js';
import { create } from './views/create.js';
import { decision, decisions } from './views/decisions.js';
import { events } from './views/events.js';
import { images, snapshots } from './views/images.js';
import { policies } from './views/policies.js';
import { one } from './views/workspace.js';
import { all } from './views/workspaces.js';

const main = document.getElementById('main');
const live = document.getElementById('live');
const leave = document.getElementById('leave');
const me = document.getElementById('me');
const nav = document.querySelector('header nav');

/** Views by the first word of the place: each fills the element and gives the function that ends what it opened. */
const VIEWS = {
  '': { title: 'Workspaces', nav: '#/', show: all },
  workspace: { title: 'Workspace', nav: '#/', show: one },
  new: { title: 'New workspace', nav: '#/', show: create },
  images: { title: 'Images', nav: '#/images', show: images },
  snapshots: { title: 'Snapshots', nav: '#/snapshots', show: snapshots },
  decisions: { title: 'Decisions', nav: '#/decisions', show: (view, rest, page) => (rest[0] ? decision(view, rest, page) : decisions(view, rest, page)) },
  policies: { title: 'Policies', nav: '#/policies', show: policies },
  cleanup: { title: 'Cleanup', nav: '#/cleanup', show: cleanup },
  events: { title: 'Events', nav: '#/events', show: events },
};

let end = () => {};
let turn = 0;
let shown = '';
/** What is followed, and how that goes. */
const streams = new Map();

/** What a view has of the page while it is the one that is shown: following something, which shows whether the page is live. */
function pageOf(mine) {
  return {
    follow: (path, handlers) => {
      const stream = Symbol(path);
      const end = follow(path, handlers, (state, problem) => {
        if (mine !== turn) return;
        if (state === 'refused') notice(`${problem.message}${problem.remedy ? ` – ${problem.remedy}` : ''}`, true);
        streams.set(stream, state);
        say();
      });
      return () => { streams.delete(stream); end(); };
    },
    title: (text) => { if (mine === turn) document.title = `${text} · Wharf`; },
  };
}

/** The worst of the streams that are followed. */
function say() {
  const states = [...streams.values()];
  const state = ['lost', 'refused', 'live'].find((one) => states.includes(one));
  live.textContent = { lost: 'connecting…', refused: 'not live', live: 'live' }[state] ?? '';
  live.className = `live ${{ live: 'on', lost: 'off' }[state] ?? ''}`;
}

async function show() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent);
  const view = VIEWS[name] ?? VIEWS[''];
  end();
  end = () => {};
  streams.clear();
  say();
  const mine = (turn += 1);
  document.title = `${view.title} · Wharf`;
  for (const link of document.querySelectorAll('nav a')) {
    if (link.getAttribute('href') === view.nav) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  // A place of its own: what comes late for a view that was left draws out of sight.
  const place = h('div', {}, h('p', { class: 'empty', role: 'status' }, 'Loading…'));
  fill(main, place);
  // Who came by a link is told where they are; the first page is read from its top.
  if (shown && shown !== location.hash) main.focus({ preventScroll: true });
  shown = location.hash || '#/';
  try {
    const ended = await view.show(place, rest, pageOf(mine));
    if (mine === turn) end = ended ?? end;
    else ended?.();
  } catch (error) {
    if (mine !== turn || error.status === 401) return;
    fill(main, h('h1', {}, view.title), h('div', { class: 'problem', role: 'alert' },
      h('p', {}, error.message), error.remedy && h('p', { class: 'small' }, error.remedy)));
    if (!(error instanceof Problem)) throw error;
  }
}

/** Shows who this is, and only the views that the caller may see. */
function greet(who) {
  session.who = who;
  const labels = Object.entries(who?.labels ?? {}).map(([name, value]) => `${name}=${value}`);
  fill(me, who && [h('strong', {}, who.role), ' ', h('span', { class: 'soft' }, who.name)]);
  me.title = who ? `${who.name}: ${who.role}${labels.length ? `, only workspaces with ${labels.join(', ')}` : ''}` : '';
  leave.hidden = who?.cookie !== true;
  nav.hidden = !who;
  for (const link of nav.querySelectorAll('[data-whole]')) link.hidden = !session.may('viewer', true);
}

/** Asks for a token, of which only a session is kept, in a cookie that scripts cannot read. */
function login() {
  end();
  end = () => {};
  turn += 1;
  streams.clear();
  say();
  greet(null);
  const token = h('input', { type: 'password', name: 'token', required: true, autocomplete: 'current-password', spellcheck: 'false' });
  const wrong = h('div', { role: 'alert' });
  const form = h('form', {
    onsubmit: async (event) => {
      event.preventDefault();
      try {
        greet(await post('/v1/session', { token: token.value.trim() }));
        await show();
      } catch (error) {
        fill(wrong, h('div', { class: 'problem' }, h('p', {}, error.message), error.remedy && h('p', { class: 'small' }, error.remedy)));
        token.select();
      }
    },
  }, wrong, h('label', {}, 'Token', token), h('button', { type: 'submit', class: 'main' }, 'Log in'),
  h('p', { class: 'small soft' }, 'An admin creates a token with ', h('code', {}, 'wharf token create NAME --role viewer'), '.'));
  document.title = 'Log in · Wharf';
  fill(main, h('section', { class: 'card login' }, h('h1', {}, 'Log in'), h('p', { class: 'soft' }, 'Wharf runs development containers on this host, and policies decide what each may do.'), form));
  token.focus();
}

session.refused = login;
leave.addEventListener('click', async () => {
  try {
    await remove('/v1/session');
  } catch (error) {
    notice(error.message, true);
    return;
  }
  login();
});

const THEMES = [['', 'system'], ['dark', 'dark'], ['light', 'light']];
const button = document.getElementById('theme');
function paint(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  button.setAttribute('aria-label', `Colours: ${THEMES.find(([name]) => name === theme)[1]}`);
}
const kept = () => { try { const theme = localStorage.getItem('wharf-theme') ?? ''; return THEMES.some(([name]) => name === theme) ? theme : ''; } catch { return ''; } };
button.addEventListener('click', () => {
  const next = THEMES[(THEMES.findIndex(([name]) => name === kept()) + 1) % THEMES.length][0];
  try { localStorage.setItem('wharf-theme', next); } catch { /* Then it holds for this page only. */ }
  paint(next);
});
paint(kept());

/** Milliseconds between two corrections of the times that are relative to now. */
const TICK = 5000;
setInterval(() => {
  for (const time of document.querySelectorAll('time[data-ago]')) time.textContent = ago(new Date(time.dateTime));
}, TICK);

window.addEventListener('hashchange', show);
// The role decides which buttons there are, so it is known before the first view. Without it, the view asks for a token.
get('/v1/session').then(greet, () => greet(null)).then(show);
