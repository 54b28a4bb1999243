// The ledger of cleanup: what will go and why, what went, and taking back.
import { action, badge, bytes, fill, h, problem, table, when } from '../dom.js';
import { get, post, session } from '../api.js';

export async function cleanup(place) {
  const ledger = h('div');
  const look = h('div');
  const load = async () => {
    const entries = await get('/v1/cleanup?all=true&limit=500');
    const undo = (entry) => !session.may('operator', true) ? '' : entry.state === 'pending' || (entry.state === 'done' && entry.action === 'stop')
      ? action('Undo', async () => { await post('/v1/cleanup/undo', { which: String(entry.id) }); await load(); }, { kind: 'small', done: `${entry.object} is kept` })
      : entry.state === 'undone'
        ? action('Unprotect', async () => { await post('/v1/cleanup/allow', { which: String(entry.id) }); await load(); }, { kind: 'small', done: `${entry.object} is no longer protected` }) : '';
    const total = entries.filter((entry) => entry.state === 'pending').reduce((sum, entry) => sum + (entry.bytes ?? 0), 0);
    fill(ledger, table(`The ledger, newest first; planned: ${bytes(total)}`, [['Number', 'number'], 'Object', ['Size', 'number'], 'Action', 'State', 'When', 'Policy', 'Reason', 'Actions'], entries.map((entry) => [
      String(entry.id), h('code', {}, entry.object), bytes(entry.bytes), entry.action, badge(entry.state, { pending: 'warn', done: undefined, undone: 'good' }[entry.state]),
      when(entry.ended ?? entry.due), entry.policy, entry.reason, undo(entry),
    ]), 'No removals planned or done.'));
  };
  const dry = async () => {
    const report = await post('/v1/cleanup/sweep', { dry_run: true });
    fill(look, report.failed && h('div', { class: 'problem', role: 'alert' }, h('p', {}, `Everything was kept: ${report.failed}`)),
      table('All objects created by Wharf, and the current verdicts of the policies', ['Object', 'State', ['Size', 'number'], 'Verdict', 'When', 'Policy', 'Reason'], report.lines.map((line) => [
        h('code', {}, line.id), line.state ? badge(line.state) : line.used ? badge('used') : '', bytes(line.bytes),
        badge(line.choice, { keep: 'good', stop: 'warn', remove: 'bad' }[line.choice]), line.due ? when(line.due) : '–', line.policy ?? '–', line.error ?? line.reason,
      ]), 'There are no objects.'));
  };
  fill(place, h('h1', {}, 'Cleanup'), session.may('admin', true) && h('div', { class: 'bar' },
    action('Dry run', dry, {}),
    action('Sweep now', async () => { await post('/v1/cleanup/sweep', {}); await load(); await dry(); }, { kind: 'danger', done: 'The sweep has finished', confirm: 'Sweep now? Objects that policies remove are deleted after their grace period.' })),
  ledger, look);
  await load();
  // Looking asks the policies, which only admins may.
  if (!session.may('admin', true)) return;
  try {
    await dry();
  } catch (error) {
    if (error.status !== 403) fill(look, problem(error));
  }
}
