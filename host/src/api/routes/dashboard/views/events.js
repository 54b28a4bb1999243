// What happens, as it happens.
import { fill, h } from '../dom.js';
import { pages } from '../api.js';
import { eventTable } from './workspace.js';

/** Events that the page shows. */
const SHOWN = 500;

export async function events(place, rest, page) {
  const body = h('div');
  const find = h('input', { type: 'search', placeholder: 'Workspace, event, details', 'aria-label': 'Filter events', oninput: () => draw() });
  fill(place, h('h1', {}, 'Events'), h('div', { class: 'bar' }, find), body);
  let all = await pages('/v1/events?since=24h&limit=1000', 5000, true);
  const matches = (event) => !find.value || [event.workspace, event.what, event.detail].some((text) => text?.toLowerCase().includes(find.value.toLowerCase()));
  const draw = () => fill(body, eventTable(all.filter(matches).slice(-SHOWN).reverse()));
  draw();
  return page.follow('/v1/events', { message: (event) => { all.push(event); all = all.slice(-5000); draw(); } });
}
