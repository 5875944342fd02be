// datastore_page.js: datastores, and the files on one: #/datastores/local/iso
import { html, useEffect, useRef, useState } from './lib.js';
import { del, downloadUrl, getAll, post, segment, segments } from './api.js';
import { Ago, bytes } from './format.js';
import { Bar } from './facts.js';
import { Icon } from './icons.js';
import { link } from './router.js';
import { can, compareNames, filesChanged } from './store.js';
import { ask, Dialog, open } from './dialog.js';
import { Field, ProblemNote } from './form.js';
import { startUploads, Uploads } from './uploads.js';

function useList(path, ...also) {
	const [list, setList] = useState({ items: null, problem: null });
	const [asked, setAsked] = useState(0);
	useEffect(() => {
		let over = false;
		getAll(path).then(items => over || setList({ items, problem: null }), problem => over || setList({ items: [], problem }));
		return () => {
			over = true;
		};
	}, [path, asked, ...also]);
	return { ...list, again: () => setAsked(n => n + 1) };
}

function Stores() {
	const { items, problem } = useList('/datastores');
	return html`<div class="page"><div class="head"><h1>Datastores</h1></div>
		<${ProblemNote} problem=${problem} />
		<div class="cards">${items?.map(s => html`<a key=${s.id} class="sheet card" href=${link('datastores', s.name)}>
			<h2><${Icon} name="datastore" />${s.name}</h2>
			<${Bar} label="Used" used=${s.status.capacity_bytes - s.status.free_bytes} total=${s.status.capacity_bytes} />
			<p>${s.status.capacity_bytes ? html`<b>${bytes(s.status.free_bytes)}</b> free of ${bytes(s.status.capacity_bytes)}` : s.status.reason}</p>
			<p class="quiet path">${s.config.path}</p></a>`)}</div></div>`;
}

function FolderDialog({ base, close, made }) {
	const [name, setName] = useState('');
	const [problem, setProblem] = useState(null);
	const submit = async e => {
		e.preventDefault();
		try {
			await post(base(name));
			close();
			made();
		} catch (why) {
			setProblem(why);
		}
	};
	return html`<${Dialog} title="New folder" onClose=${close} kind="small"><form onSubmit=${submit}><div class="dialog-body">
		<${ProblemNote} problem=${problem} />
		<${Field} label="Name"><input required autofocus spellcheck=${false} value=${name} onInput=${e => setName(e.target.value)} /><//></div>
		<footer><button type="button" onClick=${close}>Cancel</button><button class="primary">Make it</button></footer></form><//>`;
}

function Crumbs({ store, folder }) {
	return html`<p class="crumb"><a href=${link('datastores')}>Datastores</a>
		${[store, ...folder].slice(0, -1).map((part, i) => html`<span key=${i}> / <a href=${link('datastores', store, ...folder.slice(0, i))}>${part}</a></span>`)}</p>`;
}

function Entry({ e, store, folder, again }) {
	const path = [...folder, e.name].join('/');
	const url = `/datastores/${segment(store)}/files/${segments(path)}`;
	const remove = () => ask({ title: `Delete ${e.name}?`, words: 'Delete', tone: 'bad',
		text: html`<p>${e.kind === 'folder' ? 'The folder has to be empty.' : 'The file is deleted for good.'}</p>`, act: async () => {
			await del(url);
			again();
		} });
	return html`<tr>
		<td class="name">${e.kind === 'folder' ? html`<a href=${link('datastores', store, ...folder, e.name)}><${Icon} name="folder" />${e.name}</a>` :
			html`<span class="unfold"><${Icon} name=${/\.iso$/i.test(e.name) ? 'disc' : 'file'} />${e.name}</span>`}</td>
		<td class="number">${e.kind === 'file' && bytes(e.size_bytes)}</td>
		<td class="number wide quiet">${e.kind === 'file' && e.used_bytes !== undefined && bytes(e.used_bytes)}</td>
		<td class="number wide quiet"><${Ago} time=${e.modified} /></td>
		<td class="act">${e.kind === 'file' && html`<a class="button plain icon-only" href=${downloadUrl(url)} download=${e.name}
				aria-label=${`Download ${e.name}`} title="Download"><${Icon} name="download" /></a>`}
			${can('storage.write') && e.kind !== 'other' && html`<button class="plain icon-only" aria-label=${`Delete ${e.name}`} title="Delete"
				onClick=${remove}><${Icon} name="trash" /></button>`}</td></tr>`;
}

function Folder({ store, folder }) {
	const path = folder.join('/');
	const { items, problem, again } = useList(`/datastores/${segment(store)}/files?path=${segment(path)}`, filesChanged.value);
	const chosen = useRef();
	const [over, setOver] = useState(false);
	const writes = can('storage.write');
	const take = files => startUploads(store, folder, [...files]);
	const sorted = [...items ?? []].sort((a, b) => (b.kind === 'folder') - (a.kind === 'folder') || compareNames(a.name, b.name));

	return html`<div class="page fills" onDragOver=${e => {
		e.preventDefault();
		setOver(writes);
	}} onDragLeave=${() => setOver(false)} onDrop=${e => {
		e.preventDefault();
		setOver(false);
		if (writes)
			take(e.dataTransfer.files);
	}}>
		<div class="head"><div class="title"><${Crumbs} store=${store} folder=${folder} /><h1 class="cut">${folder.at(-1) ?? store}</h1></div>
			<div class="buttons"><button onClick=${again}><${Icon} name="refresh" />Refresh</button>
			${writes && html`<button onClick=${() => open(close => html`<${FolderDialog} close=${close} made=${again}
					base=${name => `/datastores/${segment(store)}/folders/${segments([...folder, name].join('/'))}`} />`)}>
					<${Icon} name="folder" />New folder</button>
				<button class="primary" onClick=${() => chosen.current.click()}><${Icon} name="upload" />Upload</button>
				<input ref=${chosen} type="file" multiple hidden onChange=${e => {
					take(e.target.files);
					e.target.value = '';
				}} />`}</div></div>
		<${Uploads} store=${store} />
		<${ProblemNote} problem=${problem} />
		<div class="sheet scrolls" data-over=${over}><table class="grid" aria-label="Files"><thead><tr><th scope="col">Name</th><th scope="col" class="number">Size</th>
			<th scope="col" class="number wide">On disk</th><th scope="col" class="number wide">Changed</th><th scope="col"><span class="unseen">Acts</span></th></tr></thead>
			<tbody>${sorted.map(e => html`<${Entry} key=${e.name} e=${e} store=${store} folder=${folder} again=${again} />`)}
			${items?.length === 0 && !problem && html`<tr class="nothing"><td colspan="5">This folder is empty.${writes && ' Drop files here to upload them.'}</td></tr>`}
			</tbody></table></div></div>`;
}

export function DatastorePage({ parts }) {
	return parts[1] ? html`<${Folder} key=${parts.join('/')} store=${parts[1]} folder=${parts.slice(2)} />` : html`<${Stores} />`;
}
