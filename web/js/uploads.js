// uploads.js: files on their way to a datastore; they go on while other pages are shown.
import { html, signal } from './lib.js';
import { segment, segments, upload } from './api.js';
import { bytes } from './format.js';
import { Icon } from './icons.js';

const uploads = signal([]);
let last = 0;

const change = (id, what) => {
	uploads.value = uploads.value.map(u => u.id === id ? { ...u, ...what } : u);
};
const drop = id => {
	uploads.value = uploads.value.filter(u => u.id !== id);
};

async function run(u, replace = false) {
	change(u.id, { problem: null, sent: 0 });
	try {
		await upload(`/datastores/${segment(u.store)}/files/${segments(u.path)}${replace ? '?replace=true' : ''}`, u.file, {
			signal: u.stop.signal, progress: sent => change(u.id, { sent }) });
		drop(u.id);
	} catch (problem) {
		if (problem.name === 'AbortError')
			drop(u.id);
		else
			change(u.id, { problem });
	}
}

// One after another: they share one line and one disk.
export async function startUploads(store, folder, files) {
	const fresh = files.map(file => ({ id: ++last, store, file, path: [...folder, file.name].join('/'), sent: 0, problem: null,
					   stop: new AbortController() }));
	uploads.value = [...uploads.value, ...fresh];
	for (const u of fresh)
		await run(u);
}

export function Uploads({ store }) {
	const mine = uploads.value.filter(u => u.store === store);
	return mine.length > 0 && html`<ul class="uploads sheet">${mine.map(u => html`<li key=${u.id}>
		<${Icon} name="upload" /><span class="cut">${u.path}</span>
		${u.problem ? html`<span class="wrong">${u.problem.message}${u.problem.hint && `. ${u.problem.hint}`}</span>
				${u.problem.type.endsWith('/name-taken') && html`<button onClick=${() => run(u, true)}>Replace</button>`}` :
			html`<progress max=${u.file.size || 1} value=${u.sent} aria-label=${`Upload of ${u.file.name}`}></progress>
				<span class="quiet number">${bytes(u.sent)} of ${bytes(u.file.size)}</span>`}
		<button class="plain icon-only" aria-label=${u.problem ? 'Dismiss' : 'Cancel'} onClick=${() => u.problem ? drop(u.id) : u.stop.abort()}>
			<${Icon} name="close" /></button></li>`)}</ul>`;
}
