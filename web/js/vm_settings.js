// vm_settings.js: what can be changed of a VM. Only what differs is sent, for the revision that was shown.
import { html, useEffect, useState } from './lib.js';
import { patch, segment } from './api.js';
import { can } from './store.js';
import { isAlive } from './state.js';
import { Check, Field, ProblemNote } from './form.js';
import { FileInput, useFiles } from './file_input.js';
import { SizeInput } from './size_input.js';
import { DiskRows } from './disk_rows.js';
import { ForwardRows } from './forward_rows.js';
import { done } from './toasts.js';

const pointers = ['/name', '/labels', '/config/description', '/config/cpus', '/config/memory_bytes', '/config/accel', '/config/display',
		  '/config/kernel', '/config/cdroms', '/config/nics', '/config/disks', '/config/autostart'];

const labelsText = labels => Object.entries(labels ?? {}).map(([k, v]) => v ? `${k}:${v}` : k).join(' ');
const labelsOf = text => Object.fromEntries(text.split(/\s+/).filter(Boolean).map(word => {
	const at = word.indexOf(':');
	return at < 0 ? [word, ''] : [word.slice(0, at), word.slice(at + 1)];
}));

function formOf(vm) {
	const c = vm.config;
	return {
		name: vm.name, labels: labelsText(vm.labels), description: c.description ?? '', cpus: String(c.cpus), memory_bytes: c.memory_bytes,
		accel: c.accel, display: c.display, autostart: c.autostart, kernel: { image: '', initrd: '', command_line: '', ...c.kernel },
		cdroms: Object.fromEntries(Object.entries(c.cdroms ?? {}).map(([name, d]) => [name, d.iso ?? ''])),
		nics: Object.fromEntries(Object.entries(c.nics ?? {}).map(([name, n]) => [name, n.forwards ?? []])),
	};
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const changed = (from, to, entry) => {
	const parts = Object.keys(to).filter(k => !same(from[k], to[k])).map(k => [k, entry(to[k])]);
	return parts.length ? Object.fromEntries(parts) : undefined;
};

// A merge patch from what was shown to what the form says, or null when nothing differs.
export function patchOf(from, to) {
	const labels = { ...Object.fromEntries(Object.keys(labelsOf(from.labels)).map(k => [k, null])), ...labelsOf(to.labels) };
	const config = {
		description: from.description !== to.description ? to.description || null : undefined,
		cpus: from.cpus !== to.cpus ? Number(to.cpus) : undefined,
		memory_bytes: from.memory_bytes !== to.memory_bytes ? to.memory_bytes : undefined,
		accel: from.accel !== to.accel ? to.accel : undefined,
		display: from.display !== to.display ? to.display : undefined,
		autostart: from.autostart !== to.autostart ? to.autostart : undefined,
		kernel: changed(from.kernel, to.kernel, text => text || null),
		cdroms: changed(from.cdroms, to.cdroms, iso => ({ iso: iso || null })),
		nics: changed(from.nics, to.nics, forwards => ({ forwards })),
	};
	const body = { name: from.name !== to.name ? to.name : undefined, labels: from.labels !== to.labels ? labels : undefined,
		       config: Object.values(config).some(v => v !== undefined) ? config : undefined };
	return Object.values(body).some(v => v !== undefined) ? body : null;
}

const below = (pointer, p) => p === pointer || p.startsWith(pointer + '/');
const Pending = ({ vm, pointer }) => vm.pending?.some(p => below(pointer, p)) &&
	html`<span class="tag" title=${Object.entries(vm.pending_reasons ?? {}).filter(([p]) => below(pointer, p)).map(([, why]) => why).join('; ')}>
		at next start</span>`;

function Machine({ vm, f, set, at }) {
	const label = (words, pointer) => html`${words} <${Pending} vm=${vm} pointer=${pointer} />`;
	return html`<section class="sheet"><h2>Machine</h2><div class="pair">
		<${Field} label=${label('CPUs', '/config/cpus')} ...${at('/config/cpus')}><input name="cpus" type="number" min="1" max="512" required
			value=${f.cpus} onInput=${e => set({ cpus: e.target.value })} /><//>
		<${Field} label=${label('Memory', '/config/memory_bytes')} ...${at('/config/memory_bytes')}>
			<${SizeInput} name="memory" value=${f.memory_bytes} onChange=${memory_bytes => set({ memory_bytes })} /><//>
		<${Field} label=${label('Runs by', '/config/accel')} ...${at('/config/accel')}><select name="accel" value=${f.accel}
			onChange=${e => set({ accel: e.target.value })}>
			<option value="auto">KVM where it works</option><option value="kvm">KVM only</option><option value="tcg">Emulation</option></select><//>
		<${Field} label=${label('Display', '/config/display')} ...${at('/config/display')}><select name="display" value=${f.display}
			onChange=${e => set({ display: e.target.value })}>
			<option value="virtio">Screen, keyboard, tablet</option><option value="none">None</option></select><//>
	</div></section>`;
}

function Devices({ vm, f, set, at, files }) {
	const { kernel, cdroms, nics } = f;
	const of = (map, name, value) => set({ [map]: { ...f[map], [name]: value } });
	const label = (words, pointer) => html`${words} <${Pending} vm=${vm} pointer=${pointer} />`;
	const line = (name, words, kind) => html`<${Field} label=${label(words, `/config/kernel/${name}`)} ...${at(`/config/kernel/${name}`)}>
		${kind ? html`<${FileInput} kind=${kind} files=${files} name=${name} value=${kernel[name]} onInput=${e => of('kernel', name, e.target.value)} />` :
			html`<input class="mono" name=${name} value=${kernel[name]} spellcheck=${false} onInput=${e => of('kernel', name, e.target.value)} />`}<//>`;
	return html`<section class="sheet"><h2>Devices</h2>
		${vm.config.firmware === 'kernel' && [line('image', 'Kernel', 'kernel'), line('initrd', 'Initial RAM disk', 'initrd'), line('command_line', 'Command line')]}
		${Object.keys(cdroms).map(name => html`<${Field} key=${name} label=${label(`CD in ${name}`, `/config/cdroms/${name}`)}
			...${at(`/config/cdroms/${name}`)} note="Empty: no disc.">
			<${FileInput} kind="iso" files=${files} name=${`cd-${name}`} value=${cdroms[name]} onInput=${e => of('cdroms', name, e.target.value)} /><//>`)}
		<${DiskRows} vm=${vm} label=${label} />
		${Object.keys(nics).map(name => html`<${ForwardRows} key=${name} nic=${name} rows=${nics[name]} at=${at}
			pending=${html`<${Pending} vm=${vm} pointer=${`/config/nics/${name}`} />`} onChange=${rows => of('nics', name, rows)} />`)}
	</section>`;
}

export function VmSettings({ vm }) {
	const [shown, setShown] = useState(vm);
	const [f, setF] = useState(() => formOf(vm));
	const [busy, setBusy] = useState(false);
	const [problem, setProblem] = useState(null);
	const files = useFiles();
	const from = formOf(shown), body = patchOf(from, f);
	const stale = shown.revision !== vm.revision;
	const load = fresh => {
		setShown(fresh);
		setF(formOf(fresh));
		setProblem(null);
	};
	const untouched = stale && !body && !busy;
	useEffect(() => {
		if (untouched)
			load(vm);
	}, [untouched]);
	const set = change => setF(old => ({ ...old, ...change }));
	const at = pointer => ({ pointer, problem });

	const submit = async e => {
		e.preventDefault();
		setBusy(true);
		try {
			const fresh = await patch(`/vms/${segment(vm.id)}`, body, { ifMatch: shown.revision });
			load(fresh);
			done(fresh.pending?.length ? `${fresh.name} is saved; some of it takes effect at the next start` : `${fresh.name} is saved`);
		} catch (why) {
			setProblem(why);
		}
		setBusy(false);
	};
	return html`<form class="settings" onSubmit=${submit}>
		${vm.pending?.length > 0 && html`<p class="notice" data-tone="held">Marked values take effect when the VM is powered off and on again.
			${Object.entries(vm.pending_reasons ?? {}).map(([p, why]) => html`<br key=${p} /><b>${p.replace('/config/', '')}</b>: ${why}.`)}</p>`}
		<${ProblemNote} problem=${problem} pointers=${pointers} />
		${stale && body && html`<p class="notice" data-tone="held">${vm.name} was changed meanwhile.
			<button type="button" onClick=${() => load(vm)}>Show it as it is now</button></p>`}
		<fieldset class="bare" disabled=${!can('vm.configure') || busy}>
			<section class="sheet"><h2>General</h2><div class="pair">
				<${Field} label="Name" ...${at('/name')}><input name="name" value=${f.name} required maxlength="63" spellcheck=${false}
					onInput=${e => set({ name: e.target.value })} /><//>
				<${Field} label="Labels" ...${at('/labels')} note="Words or key:value, with spaces."><input name="labels" value=${f.labels}
					spellcheck=${false} onInput=${e => set({ labels: e.target.value })} /><//></div>
				<${Field} label="Note" ...${at('/config/description')}><input name="description" value=${f.description} maxlength="1024"
					onInput=${e => set({ description: e.target.value })} /><//>
				<${Check} name="autostart" label="Start it with the host" checked=${f.autostart} onChange=${e => set({ autostart: e.target.checked })} />
			</section>
			<${Machine} vm=${vm} f=${f} set=${set} at=${at} key=${'m' + shown.revision} />
			<${Devices} vm=${vm} f=${f} set=${set} at=${at} files=${files} />
		</fieldset>
		${can('vm.configure') && html`<div class="save" data-shown=${Boolean(body)}>
			<span class="quiet">${body ? isAlive(vm) ? 'What a running VM cannot take over waits for its next start.' : 'Not saved yet.' : ''}</span>
			<span class="fill"></span>
			<button type="button" disabled=${!body || busy} onClick=${() => load(vm)}>Discard</button>
			<button class="primary" disabled=${!body || busy}>Save</button></div>`}
	</form>`;
}
