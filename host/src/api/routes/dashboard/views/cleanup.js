// The ledger of cleanup: what will go and why, what went, and taking back.
import { action, badge, bytes, fill, h, problem, table, when } from '../dom.js';
import { get, post } from '../api.js';

export async function cleanup(place) {
  const ledger = h('div');
  const look = h('div');
  const load = async () => {
    const entries = await get('/v1/cleanup?all=true&limit=500');
    const undo = (entry) => entry.state === 'pending' || (entry.state === 'done' && entry.action === 'stop')
      ? action('Take back', async () => { await post('/v1/cleanup/undo', { which: String(entry.id) }); await load(); }, { kind: 'small', done: `${entry.object} is kept` })
      : entry.state === 'undone'
        ? action('Leave to sweeps', async () => { await post('/v1/cleanup/allow', { which: String(entry.id) }); await load(); }, { kind: 'small', done: `${entry.object} is left to sweeps` }) : '';
    const total = entries.filter((entry) => entry.state === 'pending').reduce((sum, entry) => sum + (entry.bytes ?? 0), 0);
    fill(ledger, table(`The ledger, newest first; planned: ${bytes(total)}`, [['Number', 'number'], 'What', ['Size', 'number'], 'Action', 'State', 'When', 'By', 'Why', 'Do'], entries.map((entry) => [
      String(entry.id), h('code', {}, entry.object), bytes(entry.bytes), entry.action, badge(entry.state, { pending: 'warn', done: undefined, undone: 'good' }[entry.state]),
      when(entry.ended ?? entry.due), entry.policy, entry.reason, undo(entry),
    ]), 'Nothing is planned, and nothing has gone yet.'));
  };
  const dry = async () => {
    const report = await post('/v1/cleanup/sweep', { dry_run: true });
    fill(look, report.failed && h('div', { class: 'problem', role: 'alert' }, h('p', {}, `Everything is kept: ${report.failed}`)),
      table('Everything that Wharf made, and what the policies want with it now', ['What', 'State', ['Size', 'number'], 'Verdict', 'When', 'By', 'Why'], report.lines.map((line) => [
        h('code', {}, line.id), line.state ? badge(line.state) : line.used ? badge('used') : '', bytes(line.bytes),
        badge(line.choice, { keep: 'good', stop: 'warn', remove: 'bad' }[line.choice]), line.due ? when(line.due) : '–', line.policy ?? '–', line.error ?? line.reason,
      ]), 'Wharf has made nothing.'));
  };
  fill(place, h('h1', {}, 'Cleanup'), h('div', { class: 'bar' },
    action('What would go now?', dry, {}),
    action('Sweep now', async () => { await post('/v1/cleanup/sweep', {}); await load(); await dry(); }, { kind: 'danger', done: 'The sweep is done', confirm: 'Sweep now? What policies want removed goes after its grace period.' })),
  ledger, look);
  await load();
  try {
    await dry();
  } catch (error) {
    // Looking asks the policies, which not everybody may.
    if (error.status !== 403) fill(look, problem(error));
  }
}
