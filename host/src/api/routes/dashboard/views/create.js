// A new workspace: the request at the left, and what the policies would make of it beside it, as it is written.
import { badge, fill, h, notice, problem, table, value } from '../dom.js';
import { long, pages, post, session } from '../api.js';
import { link } from './workspaces.js';
import { trail } from './workspace.js';

/** Milliseconds without a key before the plan is asked for. */
const PAUSE = 400;

/** Lines `NAME=value` as an object. */
function pairs(text) {
  const lines = text.split('\n').map((line) => line.trim()).filter(Boolean);
  return Object.fromEntries(lines.map((line) => {
    const at = line.indexOf('=');
    return at < 0 ? [line, ''] : [line.slice(0, at).trim(), line.slice(at + 1).trim()];
  }));
}

export async function create(place, rest, page) {
  page.title('New workspace');
  if (!session.may('operator', true)) {
    fill(place, h('h1', {}, 'New workspace'), problem({ message: 'your role cannot create workspaces', remedy: 'log in with the token of an operator who sees all workspaces' }));
    return undefined;
  }
  const known = await pages('/v1/workspaces?limit=1000').catch(() => []);
  const field = (name, label, attributes = {}, note) => [name, h('input', { type: 'text', name, autocomplete: 'off', spellcheck: 'false', ...attributes }), label, note];
  const lines = (name, label, note) => [name, h('textarea', { name, rows: 2, spellcheck: 'false', placeholder: note }), label];
  const network = h('select', { name: 'network' }, [['', 'as decided'], ['shared', 'shared'], ['own', 'own'], ['none', 'none']].map(([key, label]) => h('option', { value: key }, label)));
  const all = [
    field('project', 'Project folder on the host', { required: true, list: 'projects', placeholder: '/home/ada/shop' }),
    field('name', 'Name', { placeholder: 'that of the folder' }),
    field('image', 'Image', { list: 'images', placeholder: 'as decided' }),
    field('memory', 'Memory', { placeholder: '2GiB' }), field('cpus', 'Cores', { placeholder: '2', inputmode: 'decimal' }),
    field('publish', 'Ports', { placeholder: '8080, 127.0.0.1:3000:3000' }), ['network', network, 'Network'],
    lines('labels', 'Labels', 'team=payments'), lines('env', 'Environment', 'NODE_ENV=development'),
  ];
  const inputs = Object.fromEntries(all.map(([name, input]) => [name, input]));
  const labelled = ([, input, label]) => h('label', {}, label, input);
  const [project, name, image, memory, cpus, publish, net, labels, env] = all.map(labelled);
  const lists = [['projects', new Set(known.map((view) => view.project))], ['images', new Set(known.map((view) => view.image))]]
    .map(([id, options]) => h('datalist', { id }, [...options].filter(Boolean).map((option) => h('option', { value: option }))));
  const go = h('button', { type: 'submit', class: 'main', disabled: true }, 'Create');
  const said = h('div', { role: 'status' });
  const plan = h('div', { 'aria-live': 'polite' }, h('p', { class: 'empty card' }, 'Name a project folder to see what the policies decide.'));
  const form = h('form', { class: 'card form', onsubmit: (event) => { event.preventDefault(); make(); } },
    lists, project, h('div', { class: 'pair' }, name, image), h('div', { class: 'pair' }, memory, cpus), h('div', { class: 'pair' }, publish, net), labels, env, go, said);
  fill(place, h('h1', {}, 'New workspace'), h('div', { class: 'beside' }, form, plan));

  const request = () => {
    const text = (key) => inputs[key].value.trim();
    const body = { project: text('project') };
    for (const key of ['name', 'image', 'memory', 'network']) if (text(key)) body[key] = text(key);
    if (text('cpus')) body.cpus = Number(text('cpus').replace(',', '.'));
    if (text('publish')) body.publish = text('publish').split(/[\s,]+/).filter(Boolean);
    for (const key of ['labels', 'env']) if (text(key)) body[key] = pairs(text(key));
    return body;
  };
  let turn = 0;
  let timer;
  const ask = async () => {
    const body = request();
    const mine = (turn += 1);
    go.disabled = true;
    if (!body.project) return;
    plan.classList.add('stale');
    try {
      const found = await post('/v1/plan', body);
      if (mine !== turn) return;
      fill(plan, drawn(found));
      go.disabled = Boolean(found.denied);
    } catch (error) {
      if (mine === turn) fill(plan, problem(error));
    } finally {
      if (mine === turn) plan.classList.remove('stale');
    }
  };
  form.addEventListener('input', () => { clearTimeout(timer); turn += 1; go.disabled = true; timer = setTimeout(ask, PAUSE); });

  async function make() {
    go.disabled = true;
    fill(said, h('p', { class: 'small soft' }, 'Creating…'));
    try {
      const view = await long('/v1/workspaces', request(), (step) => {
        const text = step.text ?? (step.layer ? `${step.status} ${step.layer}` : step.status);
        if (text) fill(said, h('p', { class: 'small soft' }, text));
      });
      notice(`${view.id} is created`);
      location.hash = link(view.id);
    } catch (error) {
      fill(said, problem(error));
      go.disabled = false;
    }
  }
  return () => { clearTimeout(timer); turn += 1; };
}

/** A plan: the verdict, each field that is not a default, and the steps of the policies. */
function drawn(plan) {
  const exists = plan.denied
    ? h('div', { class: 'problem', role: 'alert' }, h('p', {}, h('strong', {}, 'Denied '), `by ${plan.denied.policy}${plan.denied.at ? ` (${plan.denied.at})` : ''}: ${plan.denied.reason}`), plan.denied.code && h('p', { class: 'small' }, plan.denied.code))
    : h('div', { class: 'verdict' }, h('p', {}, h('strong', {}, 'Allowed '), `as ${plan.id}`));
  const decided = Object.entries(plan.fields).filter(([, field]) => field.owner !== 'default');
  return [exists, (plan.notes ?? []).map((note) => h('p', { class: 'small soft' }, note)),
    table('Fields that a policy, the project or the request set', ['Field', ['Value', 'whole'], 'Set by'], decided.map(([name, field]) => [
      h('code', {}, name), value(field.value, name), badge(field.owner, ['project', 'config', 'request'].includes(field.owner) ? undefined : 'good'),
    ]), 'Every field has its default.'),
    h('h2', {}, 'Steps of the policies'), trail(plan.trail)];
}
