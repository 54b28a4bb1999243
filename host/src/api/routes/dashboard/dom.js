// Making and showing elements. Text is always text: nothing that comes from a workspace is ever read as HTML.

const SVG = new Set(['svg', 'path', 'line', 'text']);

/** Makes an element: `h('a', { href, class, onclick, ... }, children...)`. */
export function h(tag, attributes = {}, ...children) {
  const element = SVG.has(tag)
    ? document.createElementNS('http://www.w3.org/2000/svg', tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name in { checked: 1, value: 1, disabled: 1 }) element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}
/** Puts children in the place of what an element has. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

/** The same for a table that is drawn anew: who was on something in a row stays on it. Rows are known by their first link. */
export function refill(element, ...children) {
  const inside = 'a, button, input, select';
  const row = element.contains(document.activeElement) ? document.activeElement.closest('tr') : null;
  const key = row?.querySelector('a')?.getAttribute('href');
  const index = row ? [...row.querySelectorAll(inside)].indexOf(document.activeElement) : -1;
  fill(element, ...children);
  if (!key || index < 0) return element;
  const again = [...element.querySelectorAll('tr')].find((other) => other.querySelector('a')?.getAttribute('href') === key);
  again?.querySelectorAll(inside)[index]?.focus({ preventScroll: true });
  return element;
}

/** A table with a caption; `columns`: [name, class]; `rows`: arrays of cells. On a phone rows become cards. */
export function table(caption, columns, rows, empty) {
  const label = (column) => (Array.isArray(column) ? column[0] : column);
  const kind = (column) => (Array.isArray(column) ? column[1] : undefined);
  const cell = (content, index) => h('td', { class: kind(columns[index]), 'data-label': label(columns[index]) }, h('div', {}, content));
  const line = (cells) => (cells instanceof Element ? cells : h('tr', {}, cells.map(cell)));
  const head = h('thead', {}, h('tr', {}, columns.map((column) => h('th', { scope: 'col', class: kind(column) }, label(column)))));
  if (rows.length === 0 && empty) return h('p', { class: 'empty card' }, empty);
  const body = h('tbody', {}, rows.map(line));
  return h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
    h('table', { class: 'stack' }, h('caption', {}, caption), head, body));
}

/** Names and values. */
export function facts(pairs) {
  return h('dl', { class: 'facts' }, pairs.filter(([, value]) => value !== undefined && value !== null && value !== false && value !== '')
    .map(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]));
}

const STATES = {
  running: 'good', healthy: 'good', allowed: 'good', enforce: 'good', done: 'good',
  exited: 'idle', created: 'idle', paused: 'warn', restarting: 'warn', starting: 'warn', shadow: 'warn', planned: 'warn', pending: 'warn',
  missing: 'bad', dead: 'bad', unhealthy: 'bad', denied: 'bad', failed: 'bad', error: 'bad',
};

/** A word with the colour of what it means; the word alone says it, too. */
export function badge(word, kind) {
  return h('span', { class: `badge ${kind ?? STATES[word] ?? ''}` }, word);
}

export function bytes(count) {
  if (count === null || count === undefined) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let place = 0;
  while (count >= 1024 && place < units.length - 1) { count /= 1024; place += 1; }
  return `${place === 0 || count >= 100 ? Math.round(count) : count.toFixed(1)} ${units[place]}`;
}

export function percent(value) {
  return value === null || value === undefined ? '–' : `${value.toFixed(1)} %`;
}

/** How long ago a time was, with the time itself as the title. `main.js` keeps it true. */
export function when(time) {
  if (!time) return '–';
  const date = new Date(time);
  return h('time', { datetime: date.toISOString(), title: date.toLocaleString(), 'data-ago': true }, ago(date));
}

/** How long ago a time was, in words. */
export function ago(date) {
  const seconds = Math.round((date - Date.now()) / 1000);
  const far = Math.abs(seconds);
  const [unit, length] = far < 90 ? ['second', 1] : far < 5400 ? ['minute', 60] : far < 129600 ? ['hour', 3600] : ['day', 86400];
  return new Intl.RelativeTimeFormat('en', { numeric: 'auto' }).format(Math.round(seconds / length), unit);
}

/** The time of day. */
export function clock(time) {
  const date = new Date(time);
  return h('time', { datetime: date.toISOString(), title: date.toLocaleString(), class: 'tight' }, date.toLocaleTimeString('en-GB'));
}

/** A duration. */
export function span(ms) {
  const units = [['d', 86400e3], ['h', 3600e3], ['min', 60e3], ['s', 1e3]];
  const [unit, length] = units.find(([, length]) => ms >= length) ?? ['ms', 1];
  return `${Number((ms / length).toFixed(1))} ${unit}`;
}

/** A value of a spec on few lines; the name of its field tells the unit. */
export function value(any, name = '') {
  if (any === null || any === undefined) return h('span', { class: 'soft' }, 'none');
  const last = name.split('.').pop();
  if (typeof any === 'number' && ['memory', 'shm_size', 'disk', 'size'].includes(last)) return h('span', { title: `${any} bytes` }, bytes(any));
  if (typeof any === 'number' && last.endsWith('_ms')) return h('span', { title: `${any} ms` }, span(any));
  if (typeof any === 'boolean') return any ? 'yes' : 'no';
  if (Array.isArray(any)) {
    if (any.length === 0) return h('span', { class: 'soft' }, 'empty');
    if (any.every((one) => typeof one === 'string')) return h('code', {}, any.join(last === 'command' || last === 'entrypoint' ? ' ' : ', '));
  }
  if (typeof any === 'object' && 'reference' in any) return h('code', {}, any.reference);
  if (typeof any === 'object' && !Array.isArray(any)) return Object.entries(any).map(([key, inner]) => h('div', { class: 'part' }, h('span', { class: 'soft' }, `${key} `), value(inner, key)));
  return h('code', {}, typeof any === 'string' ? any : JSON.stringify(any));
}

/** Says something for a while. */
export function notice(text, bad = false) {
  const line = h('div', { class: bad ? 'bad' : undefined }, text);
  document.getElementById('notices').append(line);
  setTimeout(() => line.remove(), bad ? 12000 : 5000);
}

/** What went wrong, with what to do. */
export function problem(error) {
  return h('div', { class: 'problem', role: 'alert' }, h('p', {}, error.message), error.remedy && h('p', { class: 'small' }, error.remedy));
}

/** A button that does something once at a time, and says what came of it. */
export function action(label, act, { done, kind, confirm: question } = {}) {
  const button = h('button', {
    type: 'button', class: kind,
    onclick: async () => {
      if (question && !window.confirm(question)) return;
      button.disabled = true;
      try {
        const result = await act();
        if (done) notice(typeof done === 'function' ? done(result) : done);
      } catch (error) {
        notice(`${error.message}${error.remedy ? ` – ${error.remedy}` : ''}`, true);
      } finally {
        button.disabled = false;
      }
    },
  }, label);
  return button;
}
