// Images and snapshots: what each takes, and which workspaces use it.
import { action, bytes, fill, h, table, when } from '../dom.js';
import { get, pages, post, remove, session } from '../api.js';
import { link } from './workspaces.js';

const users = (list) => (list.length ? list.map((view) => h('div', {}, h('a', { href: link(view.id) }, view.name))) : '');

export async function images(place) {
  const body = h('div');
  const count = h('span', { class: 'soft', role: 'status' });
  const may = session.may('operator', true);
  const load = async () => {
    const [all, workspaces] = await Promise.all([get('/v1/images'), pages('/v1/workspaces?limit=1000')]);
    const of = (image) => workspaces.filter((view) => view.image_id === image.id || view.image === image.reference);
    count.textContent = `${all.length} image${all.length === 1 ? '' : 's'}, ${bytes(all.reduce((sum, image) => sum + image.size, 0))} with shared layers counted each time`;
    fill(body, table('Images that Wharf built, pulled or kept', ['Image', 'Origin', ['Size', 'number'], 'Used by', 'Created', ...(may ? ['Actions'] : [])], all.map((image) => {
      const used = of(image);
      return [
        [h('code', {}, image.reference), h('div', { class: 'soft small mono' }, image.id.replace('sha256:', '').slice(0, 12))],
        image.origin, bytes(image.size), used.length ? users(used) : image.origin === 'snapshot' ? h('a', { href: '#/snapshots' }, 'a snapshot') : '', when(image.created_at),
        ...(may ? [used.length || image.origin === 'snapshot' ? '' : action('Remove', async () => { await remove(`/v1/images/${encodeURIComponent(image.reference)}`); await load(); },
          { kind: 'small danger', done: `${image.reference} is removed`, confirm: `Remove the image ${image.reference}?` })] : []),
      ];
    }), 'Wharf has built, pulled or kept no image so far.'));
  };
  fill(place, h('h1', {}, 'Images'), h('div', { class: 'bar' }, count, h('span', { class: 'space' }),
    may && action('Remove unused', async () => { const found = await post('/v1/images/prune'); await load(); return found; }, {
      kind: 'danger', confirm: 'Remove all images that no container uses?',
      done: (found) => `Removed ${found.removed.length}${found.failed.length ? `, kept ${found.failed.length}: ${found.failed[0].detail}` : ''}`,
    })), body);
  await load();
}

export async function snapshots(place) {
  const body = h('div');
  const may = session.may('operator', true);
  const load = async () => {
    const sizes = session.may('viewer', true) ? get('/v1/images').catch(() => []) : [];
    const [all, kept, workspaces] = await Promise.all([get('/v1/snapshots'), sizes, pages('/v1/workspaces?limit=1000')]);
    const size = (one) => kept.find((image) => image.id === one.image_id)?.size;
    fill(body, table('Snapshots of workspaces, by name', ['Snapshot', 'Workspace', 'Project', ['Size', 'number'], 'Volumes', 'Used by', 'Created', ...(may ? ['Actions'] : [])], all.map((one) => {
      const used = workspaces.filter((view) => view.image_id === one.image_id);
      const there = workspaces.some((view) => view.id === one.workspace);
      return [
        h('code', {}, one.name), there ? h('a', { href: link(one.workspace) }, one.workspace_name) : [one.workspace_name, h('div', { class: 'soft small' }, 'removed')],
        h('code', {}, one.project), bytes(size(one)), Object.keys(one.volumes ?? {}).length ? String(Object.keys(one.volumes).length) : '', users(used), when(one.created_at),
        ...(may ? [action('Remove', async () => { await remove(`/v1/snapshots/${encodeURIComponent(one.name)}`); await load(); },
          { kind: 'small danger', done: `${one.name} is removed`, confirm: `Remove the snapshot ${one.name}? Its volumes are removed with it.` })] : []),
      ];
    }), 'There are no snapshots. Take one with ‘wharf snapshot create’.'));
  };
  fill(place, h('h1', {}, 'Snapshots'), body);
  await load();
}
