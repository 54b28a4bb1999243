// The API of the service, as programs see it: nothing here that they could not do.

/** What the service says when something fails (RFC 9457). */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? `the service responded with status ${status}`);
    Object.assign(this, { status, code: body.code ?? 'unknown', remedy: body.remedy, trail: body.trail ?? [] });
  }
}

const ROLES = ['viewer', 'operator', 'admin'];

/** The session: `who` is the caller, once it is known. */
export const session = {
  refused: () => {},
  who: null,
  /** Whether the caller has at least a role; `whole`: and sees the whole installation. The service decides, this only hides buttons. */
  may(role, whole = false) {
    const { who } = this;
    if (!who) return true;
    return ROLES.indexOf(who.role) >= ROLES.indexOf(role) && !(whole && Object.keys(who.labels ?? {}).length);
  },
};

async function call(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      credentials: 'same-origin',
      cache: 'no-store',
      headers: { accept: 'application/json', ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    throw new Problem(0, { detail: 'the service is unreachable', code: 'unreachable', remedy: String(error.message) });
  }
  if (response.ok) return response.status === 204 ? null : { body: await response.json(), link: response.headers.get('link') };
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401 && path !== '/v1/session') session.refused();
  throw new Problem(response.status, answer);
}

export const get = async (path) => (await call('GET', path)).body;
export const post = async (path, body = {}) => (await call('POST', path, body))?.body;
export const remove = async (path) => (await call('DELETE', path))?.body;

/** Does something long, and reports its steps. Gives the result. */
export async function long(path, body, step) {
  const response = await fetch(path, {
    method: 'POST', credentials: 'same-origin', cache: 'no-store', body: JSON.stringify(body),
    headers: { accept: 'text/event-stream', 'content-type': 'application/json' },
  });
  if (!response.ok) {
    if (response.status === 401) session.refused();
    throw new Problem(response.status, await response.json().catch(() => ({})));
  }
  for await (const event of events(response.body)) {
    if (event.data === undefined) continue;
    const data = JSON.parse(event.data);
    if (event.name === 'progress') step(data);
    if (event.name === 'problem') throw new Problem(data.status ?? 500, data);
    if (event.name === 'result') return data;
  }
  throw new Problem(0, { detail: 'the connection ended before the result', remedy: 'look at the list of workspaces: the service goes on without this page' });
}

/** All pages of a list, up to `most` entries; of more, those at the end where `newest` says so. */
export async function pages(path, most = 5000, newest = false) {
  let all = [];
  let next = path;
  while (next && (newest || all.length < most)) {
    const { body, link } = await call('GET', next);
    all.push(...body);
    if (newest) all = all.slice(-most);
    next = /<([^>]+)>;\s*rel="next"/.exec(link ?? '')?.[1];
  }
  return all;
}

export const workspace = (id, what = '') => `/v1/workspaces/${encodeURIComponent(id)}${what && `/${what}`}`;

/**
 * Follows a stream of events and resumes it behind the last one that was seen. While the page is hidden nothing is kept
 * open, since browsers allow few connections at once. `handlers`: by the event's name, `message` for those without.
 * Returns the function that ends it.
 */
export function follow(path, handlers, state = () => {}) {
  let last = '';
  let wait = 1000;
  let timer;
  let open;
  const run = async () => {
    if (open || document.hidden) return;
    const mine = new AbortController();
    open = mine;
    try {
      const headers = { accept: 'text/event-stream', ...(last && { 'last-event-id': last }) };
      const response = await fetch(path, { headers, credentials: 'same-origin', cache: 'no-store', signal: mine.signal });
      if (!response.ok) {
        const problem = new Problem(response.status, await response.json().catch(() => ({})));
        if (response.status === 401) session.refused();
        // Asking again changes nothing.
        if (response.status < 500 && response.status !== 429) { state('refused', problem); return; }
        throw problem;
      }
      wait = 1000;
      state('live');
      for await (const event of events(response.body)) {
        if (event.id !== undefined) last = event.id;
        if (event.data !== undefined) handlers[event.name ?? 'message']?.(JSON.parse(event.data), event);
        if (event.name === 'end') { state('ended'); return; }
      }
    } catch (error) {
      if (mine.signal.aborted) return;
    } finally {
      if (open === mine) open = undefined;
    }
    if (mine.signal.aborted) return;
    state('lost');
    timer = setTimeout(run, wait);
    wait = Math.min(wait * 2, 30000);
  };
  const close = () => { clearTimeout(timer); open?.abort(); open = undefined; };
  const visible = () => (document.hidden ? close() : run());
  document.addEventListener('visibilitychange', visible);
  run();
  return () => { document.removeEventListener('visibilitychange', visible); close(); };
}

/** The events of a body (the HTML standard's section on server-sent events). */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let event = {};
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split('\n');
      rest = lines.pop();
      for (const line of lines) {
        if (line === '') {
          if (event.data !== undefined || event.id !== undefined) yield event;
          event = {};
          continue;
        }
        const colon = line.indexOf(':');
        const name = colon < 0 ? line : line.slice(0, colon);
        const text = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
        if (name === 'data') event.data = event.data === undefined ? text : `${event.data}\n${text}`;
        else if (name === 'id') event.id = text;
        else if (name === 'event') event.name = text;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
