// The chain: how each policy is doing, how long it takes, and reloading it.
import { action, badge, fill, h, problem, table } from '../dom.js';
import { get, pages, post, session } from '../api.js';
import { shadowTable } from './decisions.js';

/** Records from which latencies are taken. */
const LOOKED = 500;

const at = (sorted, part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];

function latencies(records) {
  const all = new Map();
  for (const record of records) {
    for (const step of record.steps) {
      const one = all.get(step.policy) ?? { times: [], failed: 0 };
      one.times.push(step.microseconds);
      one.failed += step.error ? 1 : 0;
      all.set(step.policy, one);
    }
  }
  for (const one of all.values()) one.times.sort((a, b) => a - b);
  return all;
}

const span = (microseconds) => (microseconds < 10000 ? `${microseconds} µs` : `${Math.round(microseconds / 1000)} ms`);

export async function policies(place) {
  const body = h('div');
  const said = h('div');
  const load = async () => {
    const [chain, records] = await Promise.all([get('/v1/policies'), pages('/v1/decisions?limit=500', LOOKED)]);
    draw(chain, latencies(records));
  };
  const draw = (chain, seen) => fill(body, table(`The chain, in order; latency and failures of the last ${LOOKED} decisions`,
    [['#', 'number'], 'Policy', 'Mode', 'Health', 'Hooks', ['Calls', 'number'], ['Median', 'number'], ['95 %', 'number'], 'Source'], chain.map((policy) => {
      const one = seen.get(policy.name) ?? { times: [], failed: 0 };
      return [String(policy.order), [h('strong', {}, policy.name), ' ', h('span', { class: 'soft small' }, policy.kind), h('div', { class: 'soft small mono' }, policy.digest?.slice(0, 19) ?? '')],
        badge(policy.mode, policy.mode === 'enforce' ? 'good' : 'warn'),
        [policy.ok ? (one.failed ? badge(`${one.failed} failed`, 'bad') : badge('ok', 'good')) : badge('not loaded', 'bad'), policy.error && h('div', { class: 'small' }, policy.error), policy.notes.map((note) => h('div', { class: 'small' }, note))],
        policy.hooks.join(', '), String(one.times.length), one.times.length ? span(at(one.times, 0.5)) : '–', one.times.length ? span(at(one.times, 0.95)) : '–',
        h('code', {}, policy.source)];
    })));
  fill(place, h('h1', {}, 'Policies'), session.may('admin', true) && h('div', { class: 'bar' },
    action('Reload', async () => {
      fill(said);
      try {
        await post('/v1/policies/reload');
      } catch (error) {
        fill(said, problem(error));
        throw error;
      }
      await load();
    }, { kind: 'main', done: 'The chain was reloaded' }),
    h('span', { class: 'soft small' }, 'A reload takes effect only if all policies load and pass their tests; otherwise the current chain stays active.')), said, body);
  await load();
  try {
    place.append(h('h2', {}, 'Changes by shadows'), shadowTable(await get('/v1/policies/shadows')));
  } catch (error) {
    if (error.status !== 403) place.append(problem(error));
  }
}
