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

const COLUMNS = ['Request', 'Workspace', 'Caller', 'Outcome', 'Reason', 'Time'];
/** Hooks that begin a request of their own. */
const BEGINS = { 'pre-exec': 'exec', 'pre-stop': 'stop', cleanup: 'sweep', event: 'event' };
/** The hooks of a creation, in order; an image that has to be fetched first lies between two rounds of them. */
const CREATION = ['select-image', 'security-profile', 'pre-create', 'post-start'];
/** Milliseconds between two records of one request, at most: a pull may take that long. */
const TOGETHER = 10 * 60e3;

const caller = (record) => record.input?.facts?.caller;

/** Returns whether a record belongs to the request of a group: the next hooks of one creation or one restart. */
function belongs(group, record) {
  const last = group.records[group.records.length - 1];
  if (group.denied || !CREATION.includes(record.hook) || caller(group.records[0])?.name !== caller(record)?.name) return false;
  if (Date.parse(record.time) - Date.parse(last.time) > TOGETHER) return false;
  if (last.hook === 'pre-stop') return record.hook === 'post-start' && last.input?.subject?.stop?.verb === 'restart';
  if (last.hook === 'post-start' || !CREATION.includes(last.hook)) return false;
  return record.hook !== 'security-profile' || last.hook === 'select-image';
}

/** Groups the records of one request, newest first. Records of shadows stand with the decision that they ran beside. */
export function grouped(records) {
  const groups = [];
  const open = new Map();
  const byId = new Map();
  for (const record of [...records].reverse()) {
    const before = byId.get(record.shadow_of) ?? open.get(record.workspace);
    let group = record.shadow_of && byId.has(record.shadow_of) ? before : undefined;
    if (!group && !record.shadow_of && before && belongs(before, record)) group = before;
    if (!group) {
      group = { records: [], denied: false };
      groups.push(group);
      if (!record.shadow_of) open.set(record.workspace, group);
    }
    group.records.push(record);
    group.denied ||= !record.shadow_of && outcome(record) === 'denied';
    byId.set(record.id, group);
  }
  const newest = (group) => Math.max(...group.records.map((record) => record.number));
  return groups.sort((a, b) => newest(b) - newest(a));
}

/** The verb of a request, as a command has it. */
function verb(group) {
  const [first] = group.records;
  const subject = first.input?.subject ?? {};
  const hooks = group.records.map((record) => record.hook);
  if (first.hook === 'pre-stop') return subject.stop?.verb ?? 'stop';
  if (first.hook === 'pre-exec') return 'exec';
  if (first.hook === 'event') return `event: ${subject.event?.kind ?? ''}`;
  if (BEGINS[first.hook]) return BEGINS[first.hook];
  return hooks.some((hook) => hook !== 'post-start') ? 'up' : 'start';
}

/** The outcome of a request: the denial, or that it was allowed, whatever the last hook did after it. */
function ruling(group, worst) {
  if (group.denied || outcome(worst) === 'sweep') return result(worst);
  return [badge('allowed', 'good'), group.records.some(failed) && [' ', badge('a policy failed', 'bad')], group.records.some((record) => record.shadow_of) && [' ', badge('shadow', 'warn')]];
}

function row(group, fresh) {
  const [first] = group.records;
  const last = group.records[group.records.length - 1];
  const who = caller(first);
  const command = first.input?.subject?.exec?.command;
  const worst = group.records.find((record) => outcome(record) === 'denied' && !record.shadow_of) ?? group.records.find(failed) ?? last;
  const reasons = [...new Set((group.denied ? [worst] : group.records).map(reason).filter(Boolean))];
  const hooks = h('div', { class: 'hooks' }, group.records.map((record) => h('span', { class: outcome(record) === 'denied' || failed(record) ? 'bad' : undefined },
    h('a', { href: `#/decisions/${record.number}` }, `#${record.number}`), ` ${record.hook}${record.shadow_of ? ' (shadow)' : ''}`)));
  const cells = [[h('strong', {}, verb(group)), command && [' ', h('code', {}, command.join(' ').slice(0, 80))], hooks],
    first.workspace ? h('a', { href: link(first.workspace) }, first.workspace) : '', who ? [who.name, h('div', { class: 'soft small' }, who.door === 'service' ? 'on its own' : who.role)] : '',
    ruling(group, worst), reasons.map((text) => h('div', { class: 'small' }, text)), [clock(last.time), h('div', { class: 'soft small' }, when(last.time))]];
  const kind = [group.denied && 'denied', group.records.some((record) => record.number === fresh) && 'fresh'].filter(Boolean).join(' ');
  return h('tr', { class: kind || undefined }, cells.map((cell, index) => h('td', { 'data-label': COLUMNS[index], class: { Reason: 'whole', Caller: 'tight', Time: 'tight' }[COLUMNS[index]] }, h('div', {}, cell))));
}

export async function decisions(place, rest, page) {
  const what = h('select', { 'aria-label': 'Outcome', onchange: () => load() }, ['all outcomes', 'denied', 'failed', 'allowed', 'actions', 'sweep'].map((word) => h('option', {}, word)));
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
  const draw = (fresh) => refill(body, table('Requests, newest first, each with the decisions of its hooks', COLUMNS, grouped(records).map((group) => row(group, fresh)), 'No decisions so far.'));
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
      caller(record) && [h('dt', {}, 'Caller'), h('dd', {}, caller(record).name, ' ', h('span', { class: 'soft' }, `${caller(record).role}, ${caller(record).door}`))],
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
