// path_text.js: "[local] iso/debian.iso", which leads to its folder; a folder leads to itself.
import { html } from './lib.js';
import { can } from './store.js';
import { link } from './router.js';

export function splitPath(path) {
	const m = /^\[([^\]]+)\] (.+)$/.exec(path);
	return m ? { store: m[1], path: m[2], folder: m[2].split('/').slice(0, -1) } : null;
}
export const joinPath = (store, path) => `[${store}] ${path}`;

export function PathText({ path, folder = false }) {
	const p = splitPath(path);
	if (!p || !can('storage.view'))
		return html`<span class="path">${path}</span>`;
	return html`<a class="path" href=${link('datastores', p.store, ...(folder ? p.path.split('/') : p.folder))}>${path}</a>`;
}
