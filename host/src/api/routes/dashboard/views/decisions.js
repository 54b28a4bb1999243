// What was decided: the feed as it grows, one record, and what shadows would have changed.
import { badge, clock, fill, h, refill, table, value, when } from '../dom.js';
import { get } from '../api.js';
import { link } from './workspaces.js';

/** Records that the feed shows. */
const SHOWN = 200;

const outcome = (record) => (typeof record.outcome === 'string' ? record.outcome : Object.keys(record.outcome ?? {})[0] ?? '–');
const failed = (record) => record.steps.some((step) => step.error);
const KINDS = { allowed: 'good', 'allowed-exec': 'good', denied: 'bad', actions: 'good', sweep: 'warn' };

function result(record) {
  const what = outcome(record);
  return [badge(what, KINDS[what]), failed(record) && [' ', badge('a policy failed', 'bad')], record.shadow_of && [' ', badge('shadow', 'warn')]];
}

function reason(record) {
  const denied = record.outcome?.denied;
  if (denied) return `${denied.policy}: ${denied.reason}`;
  const set = record.steps.flatMap((step) => (step.fields?.length ? [`${step.policy}: ${step.fields.join(', ')}`] : []));
  return set.join('; ');
}

export async function decisions(place, rest, page) {
  const what = h('select', { 'aria-label': 'Outcome', onchange: () => load() }, ['all outcomes', 'allowed', 'denied', 'failed', 'actions', 'sweep'].map((word) => h('option', {}, word)));
  const about = h('input', { type: 'search', placeholder: 'Workspace id', 'aria-label': 'Workspace', onchange: () => load() });
  const body = h('div');
  const shadows = h('section');
  fill(place, h('h1', {}, 'Decisions'), h('div', { class: 'bar' }, what, about), body, shadows);
  let records = [];
  let end = () => {};
  let turn = 0;
  const query = () => {
    const pairs = [];
    if (what.selectedIndex > 0) pairs.push(`outcome=${what.value}`);
    if (about.value.trim()) pairs.push(`workspace=${encodeURIComponent(about.value.trim())}`);
    return pairs;
  };
  const draw = (fresh) => refill(body, table('Decisions, newest first', ['Number', 'Time', 'Hook', 'Workspace', 'Outcome', 'Reason'], records.map((record) => {
    const row = h('tr', { class: record.number === fresh ? 'fresh' : undefined },
      [h('a', { href: `#/decisions/${record.number}` }, `#${record.number}`), [clock(record.time), ' ', h('span', { class: 'soft small' }, when(record.time))],
        record.hook, record.workspace ? h('a', { href: link(record.workspace) }, record.workspace) : '', result(record), reason(record)]
        .map((cell, index) => h('td', { 'data-label': ['Number', 'Time', 'Hook', 'Workspace', 'Outcome', 'Reason'][index] }, h('div', {}, cell))));
    return row;
  }), 'No decisions so far.'));
  async function load() {
    const mine = (turn += 1);
    end();
    const found = await get(`/v1/decisions?${[`limit=${SHOWN}`, ...query()].join('&')}`);
    // Another filter was chosen meanwhile, or the view was left.
    if (mine !== turn) return;
    records = found;
    draw();
    end = page.follow(`/v1/decisions/stream${query().length ? `?${query().join('&')}` : ''}`, {
      message: (record) => {
        if (records.some((known) => known.number === record.number)) return;
        records.unshift(record);
        records.length = Math.min(records.length, SHOWN);
        draw(record.number);
      },
      gap: () => load(),
    });
  }
  await load();
  get('/v1/policies/shadows').then((found) => fill(shadows, h('h2', {}, 'Changes by shadows'), shadowTable(found)),
    (error) => { if (error.status !== 403) fill(shadows, h('p', { class: 'soft' }, error.message)); });
  return () => { turn += 1; end(); };
}

/** What `wharf policy diff` sums up. */
export function shadowTable(found) {
  const rows = Object.entries(found).flatMap(([policy, shadow]) => {
    const about = [h('strong', {}, policy), h('div', { class: 'soft small' }, `asked ${shadow.asked === 1 ? 'once' : `${shadow.asked} times`}, would have changed ${shadow.changed}`), shadow.failed > 0 && badge(`${shadow.failed} failed`, 'bad')];
    if (shadow.differences.length === 0) return [[about, '', '', '', '', '', shadow.last_failure ?? '']];
    return shadow.differences.map((one, index) => [index ? '' : about, one.hook, h('code', {}, one.field), value(one.from), value(one.to), String(one.count),
      [one.about && h('div', { class: 'small' }, one.about), one.examples.slice(-3).map((id, place) => [place ? ', ' : '', h('a', { href: `#/decisions/${id}` }, `example ${place + 1}`)])]]);
  });
  return table('Differences of shadows, by policy and field', ['Policy', 'Hook', 'Field', 'Actual', 'With shadow', ['Count', 'number'], 'Examples'], rows, 'No differences: no policy is a shadow, or no shadow was asked so far.');
}

export async function decision(place, [number]) {
  const record = await get(`/v1/decisions/${encodeURIComponent(number)}`);
  const at = (step) => step.lines && Object.keys(step.lines).length ? h('div', { class: 'soft small' }, Object.entries(step.lines).map(([field, line]) => `${field}: line ${line}`).join(', ')) : null;
  const said = (step) => step.denial ? `${step.denial.reason} (${step.denial.code})` : step.error ? step.error.message : (step.actions ?? []).map((one) => JSON.stringify(one)).join('; ');
  fill(place, h('h1', {}, `Decision #${record.number}: ${record.hook}`),
    h('section', { class: 'card' }, h('dl', {},
      h('dt', {}, 'Outcome'), h('dd', {}, result(record), ' ', reason(record)),
      h('dt', {}, 'When'), h('dd', {}, new Date(record.time).toLocaleString(), ' ', h('span', { class: 'soft' }, '(', when(record.time), ')')),
      record.workspace && [h('dt', {}, 'Workspace'), h('dd', {}, h('a', { href: link(record.workspace) }, record.workspace))],
      h('dt', {}, 'Record'), h('dd', {}, h('code', {}, record.id)), h('dt', {}, 'Hash'), h('dd', {}, h('code', {}, record.hash)),
      record.shadow_of && [h('dt', {}, 'Shadow of'), h('dd', {}, h('a', { href: `#/decisions/${record.shadow_of}` }, record.shadow_of))])),
    table('Steps of the policies, in order', ['Policy', 'Verdict', 'Fields', 'Details', ['µs', 'number']], record.steps.map((step) => [
      [step.policy, ' ', h('span', { class: 'soft small' }, step.kind), h('div', { class: 'soft small mono' }, step.digest.slice(0, 12))],
      [badge(step.verdict, { deny: 'bad', error: 'bad', adjust: 'good', act: 'good' }[step.verdict]), step.mode && [' ', badge(typeof step.mode === 'string' ? step.mode : 'canary', 'warn')]],
      [h('code', {}, (step.fields ?? []).join(', ')), at(step)], [said(step), (step.logs ?? []).map((line) => h('div', { class: 'soft small' }, line))], String(step.microseconds),
    ]), 'No policy was asked.'),
    record.conflicts.length > 0 && [h('h2', {}, 'Conflicts'), h('ul', {}, record.conflicts.map((line) => h('li', {}, line)))],
    record.violations.length > 0 && [h('h2', {}, 'Violated invariants'), h('ul', {}, record.violations.map((line) => h('li', {}, line)))],
    record.differences?.length > 0 && [h('h2', {}, 'Changes by shadows'), table('Differences', ['Field', 'Actual', 'With shadow'], record.differences.map((one) => [h('code', {}, one.field), value(one.from), value(one.to)]))],
    h('details', { class: 'card' }, h('summary', {}, 'Full record'), h('pre', {}, JSON.stringify(record, null, 2))));
}
