// disk_rows.js: the disks of a VM: one more, one less, a larger one; also while it runs. Each is a task of its own.
import { html, useState } from './lib.js';
import { Icon } from './icons.js';
import { del, patch, post, segment } from './api.js';
import { bytes } from './format.js';
import { can, heldBy } from './store.js';
import { isAlive } from './state.js';
import { ask, Dialog, open } from './dialog.js';
import { Field, ProblemNote } from './form.js';
import { FileInput, useFiles } from './file_input.js';
import { fieldOf } from './schema.js';
import { SizeInput } from './size_input.js';

const disks = vm => `/vms/${segment(vm.id)}/disks`;

function free(vm) {
	for (let i = 0; ; i++)
		if (!vm.config.disks?.[`disk${i}`])
			return `disk${i}`;
}

// A small form over the page. @act gets what stands in it, and its problem is shown.
function Ask({ title, words, pointers, act, close, children, ready }) {
	const [busy, setBusy] = useState(false);
	const [problem, setProblem] = useState(null);
	const submit = async e => {
		e.preventDefault();
		setBusy(true);
		try {
			await act();
			close();
		} catch (why) {
			setProblem(why);
			setBusy(false);
		}
	};
	return html`<${Dialog} title=${title} onClose=${close} kind="small"><form onSubmit=${submit}>
		<div class="dialog-body"><${ProblemNote} problem=${problem} pointers=${pointers} />${children(pointer => ({ pointer, problem }))}</div>
		<footer><button type="button" onClick=${close}>Cancel</button><button class="primary" disabled=${busy || !ready}>${words}</button></footer>
	</form><//>`;
}

function Add({ vm, close }) {
	const [f, setF] = useState({ name: free(vm), size_bytes: 0, source: '', bus: 'virtio' });
	const files = useFiles();
	const set = change => setF(old => ({ ...old, ...change }));
	const act = () => post(disks(vm), { name: f.name, size_bytes: f.size_bytes || undefined, source: f.source || undefined, bus: f.bus });
	return html`<${Ask} title=${`Add a disk to ${vm.name}`} words="Add" pointers=${['/name', '/size_bytes', '/source', '/bus']} act=${act}
		close=${close} ready=${f.name && (f.size_bytes > 0 || f.source)}>${at => html`
		<${Field} label="Name" ...${at('/name')}><input name="disk-name" value=${f.name} required maxlength="63" spellcheck=${false}
			onInput=${e => set({ name: e.target.value })} /><//>
		<${Field} label="Size" ...${at('/size_bytes')} note=${f.source && 'Empty: as large as the image.'}>
			<${SizeInput} name="disk-size" least="MiB" value=${f.size_bytes} onChange=${size_bytes => set({ size_bytes })} /><//>
		<${Field} label="Copy of an image" ...${at('/source')} note="Empty: a blank disk.">
			<${FileInput} kind="image" files=${files} name="disk-source" value=${f.source} onInput=${e => set({ source: e.target.value })} /><//>
		<${Field} label="Bus" ...${at('/bus')}><select name="disk-bus" value=${f.bus} onChange=${e => set({ bus: e.target.value })}>
			<option value="virtio">virtio</option><option value="nvme">NVMe</option><option value="scsi">SCSI</option></select><//>`}<//>`;
}

function Grow({ vm, name, close }) {
	const now = vm.config.disks[name].size_bytes;
	const [size_bytes, set] = useState(now);
	return html`<${Ask} title=${`Grow ${name} of ${vm.name}`} words="Grow" pointers=${['/size_bytes']} close=${close} ready=${size_bytes > now}
		act=${() => post(`${disks(vm)}/${segment(name)}/grow`, { size_bytes })}>${at => html`
		<${Field} label="Size" ...${at('/size_bytes')} note=${`Now ${bytes(now)}. A disk never becomes smaller.`}>
			<${SizeInput} name="disk-size" value=${size_bytes} onChange=${set} /><//>`}<//>`;
}

const remove = (vm, name) => ask({ title: `Remove ${name} from ${vm.name}?`, words: 'Remove', tone: 'bad',
	act: () => del(`${disks(vm)}/${segment(name)}`),
	text: html`<p>The disk and all that is on it are deleted. This cannot be undone.${isAlive(vm) && ' Unmount it in the guest first.'}</p>` });

// "at most 10 MiB/s read, 500 writes/s"
const limitWords = l => [l?.read_bytes_per_s && `${bytes(l.read_bytes_per_s)}/s read`, l?.write_bytes_per_s && `${bytes(l.write_bytes_per_s)}/s written`,
	l?.read_iops && `${l.read_iops} reads/s`, l?.write_iops && `${l.write_iops} writes/s`].filter(Boolean).join(', ');

function Limit({ vm, name, close }) {
	const [f, setF] = useState({ ...vm.config.disks[name].limits });
	const base = `/config/disks/${name}/limits`;
	const set = change => setF(old => ({ ...old, ...change }));
	const size = (field, label) => at => html`<${Field} label=${label} unit="/s" ...${at(`${base}/${field}`)}>
		<${SizeInput} name=${field} value=${f[field]} onChange=${value => set({ [field]: value })} /><//>`;
	const number = (field, label) => at => html`<${Field} label=${label} unit="/s" ...${at(`${base}/${field}`)}>
		<input type="number" name=${field} min="0" max=${fieldOf('VmLimits', [field]).maximum} value=${f[field] || ''}
			onInput=${e => set({ [field]: Number(e.target.value) })} /><//>`;
	const rows = [size('read_bytes_per_s', 'Read at most'), size('write_bytes_per_s', 'Write at most'),
		      number('read_iops', 'Reads at most'), number('write_iops', 'Writes at most')];
	return html`<${Ask} title=${`Limits of ${name} of ${vm.name}`} words="Save" pointers=${[base]} close=${close} ready
		act=${() => patch(`/vms/${segment(vm.id)}`, { config: { disks: { [name]: { limits: f } } } }, { ifMatch: vm.revision })}>
		${at => html`${rows.map(row => row(at))}<p class="hint">Empty: no limit.</p>`}<//>`;
}

function Row({ vm, name, mark, act }) {
	const d = vm.config.disks[name], limits = limitWords(d.limits);
	const dialog = View => () => open(close => html`<${View} vm=${vm} name=${name} close=${close} />`);
	return html`<tr class="disk-row"><th scope="row"><${Icon} name="disk" />${name} ${mark(`/config/disks/${name}`)}</th>
		<td class="quiet">Disk, ${d.bus}</td><td class="number">${bytes(d.size_bytes)}</td>
		<td class="rest quiet">${limits && `at most ${limits}`}</td>
		${can('vm.configure') && html`<td class="act">${act('gauge', `Limits of ${name}`, dialog(Limit))}${act('expand', `Grow ${name}`, dialog(Grow))}
			${act('trash', `Remove ${name}`, () => remove(vm, name))}</td>`}</tr>`;
}

export function DiskRows({ vm, mark }) {
	const names = Object.keys(vm.config.disks ?? {});
	const why = heldBy(vm) ? 'a task holds the VM' : '';
	const act = (icon, words, fn) => html`<button type="button" class="plain icon-only" aria-label=${words} title=${why || words} disabled=${Boolean(why)}
		onClick=${fn}><${Icon} name=${icon} /></button>`;
	return html`${names.length > 0 && html`<table class="plain-table" aria-label="Disks"><tbody>${names.map(name =>
			html`<${Row} key=${name} vm=${vm} name=${name} mark=${mark} act=${act} />`)}</tbody></table>`}
		${can('vm.configure') && html`<div class="row"><button type="button" disabled=${Boolean(why)} title=${why}
			onClick=${() => open(close => html`<${Add} vm=${vm} close=${close} />`)}><${Icon} name="plus" />Add a disk</button></div>`}`;
}
