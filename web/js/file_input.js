// file_input.js: a path on a datastore, with what is there as suggestions.
import { html, useEffect, useState } from './lib.js';
import { getAll, segment } from './api.js';
import { can } from './store.js';
import { joinPath } from './path_text.js';

const FOLDERS_MAX = 50;
const kinds = {
	image: /\.(qcow2|img|raw)$/i,
	iso: /\.iso$/i,
	kernel: /(vmlinu|^image|kernel)/i,
	initrd: /(initrd|initramfs)/i,
};

// Files of all datastores, folder after folder; VMs' own folders are left out.
export async function listFiles() {
	const found = [];
	for (const store of await getAll('/datastores'))
		for (const folders = ['']; folders.length && found.length < FOLDERS_MAX * 20;) {
			const folder = folders.shift();
			for (const e of await getAll(`/datastores/${segment(store.name)}/files?path=${segment(folder)}`)) {
				const path = folder ? `${folder}/${e.name}` : e.name;
				if (e.kind === 'folder' && path !== 'vms' && folders.length < FOLDERS_MAX)
					folders.push(path);
				else if (e.kind === 'file')
					found.push({ name: e.name, path: joinPath(store.name, path), size: e.size_bytes });
			}
		}
	return found;
}

export function useFiles() {
	const [files, setFiles] = useState([]);
	useEffect(() => {
		if (can('storage.view'))
			listFiles().then(setFiles, () => { /* then there are no suggestions */ });
	}, []);
	return files;
}

export function FileInput({ id, kind, files, ...rest }) {
	const list = `${id}-files`;
	const fitting = files.filter(f => kinds[kind].test(f.name));
	return html`<input id=${id} class="mono" list=${list} spellcheck=${false} autocomplete="off" placeholder="[local] folder/file" ...${rest} />
		<datalist id=${list}>${(fitting.length ? fitting : files).slice(0, 200).map(f => html`<option key=${f.path} value=${f.path} />`)}</datalist>`;
}
