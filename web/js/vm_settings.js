// vm_settings.js: what can be changed of a VM. Only what differs is sent, for the revision that was shown.
import { html, useEffect, useRef, useState } from './lib.js';
import { patch, segment } from './api.js';
import { can } from './store.js';
import { isAlive } from './state.js';
import { Field, ProblemNote } from './form.js';
import { FileInput, useFiles } from './file_input.js';
import { DiskRows } from './disk_rows.js';
import { ForwardRows } from './forward_rows.js';
import { schemasAreRead } from './schema.js';
import { marked, Setting } from './setting.js';
import { UsbRows } from './usb_rows.js';
import { done } from './toasts.js';

// What of the config stands in the form. (Disks come and go by tasks of their own.)
const shownHere = ['description', 'cpus', 'cpu_weight', 'cpu_limit_percent', 'memory_bytes', 'memory_max_bytes', 'accel', 'display', 'guest_agent',
		   'on_crash', 'autostart', 'startup', 'shutdown', 'kernel', 'cdroms', 'nics', 'usb'];
const pointers = ['/name', '/labels', ...shownHere.map(name => `/config/${name}`)];

const labelsText = labels => Object.entries(labels ?? {}).map(([k, v]) => v ? `${k}:${v}` : k).join(' ');
const labelsOf = text => Object.fromEntries(text.split(/\s+/).filter(Boolean).map(word => {
	const at = word.indexOf(':');
	return at < 0 ? [word, ''] : [word.slice(0, at), word.slice(at + 1)];
}));

function formOf(vm) {
	const c = Object.fromEntries(shownHere.map(name => [name, vm.config[name]]));
	return { name: vm.name, labels: labelsText(vm.labels), config: {
		...c, description: c.description ?? '', kernel: { image: '', initrd: '', command_line: '', ...c.kernel }, usb: c.usb ?? {},
		cdroms: Object.fromEntries(Object.entries(c.cdroms ?? {}).map(([name, d]) => [name, { ...d, iso: d.iso ?? '' }])),
		nics: Object.fromEntries(Object.entries(c.nics ?? {}).map(([name, n]) => [name, { ...n, forwards: n.forwards ?? [] }])),
	} };
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const isMap = x => x !== null && typeof x === 'object' && !Array.isArray(x);

// The merge patch (RFC 7396) that makes @to of @from. @empty stands for a text that was emptied.
export function difference(from, to, empty = null) {
	const differs = [...new Set([...Object.keys(from), ...Object.keys(to)])].filter(k => !same(from[k], to[k]));
	return Object.fromEntries(differs.map(k => [k, to[k] === undefined ? null : to[k] === '' ? empty :
		isMap(from[k]) && isMap(to[k]) ? difference(from[k], to[k], empty) : to[k]]));
}

// From what was shown to what the form says, or null when nothing differs.
export function patchOf(from, to) {
	const body = difference({ ...from, labels: {} }, { ...to, labels: {} });
	if (from.labels !== to.labels)
		body.labels = difference(labelsOf(from.labels), labelsOf(to.labels), '');
	return Object.keys(body).length ? body : null;
}

// @object with @value at @path; undefined takes the entry away.
function putAt(object, [name, ...rest], value) {
	const { [name]: old, ...others } = object;
	const fresh = rest.length ? putAt(old, rest, value) : value;
	return fresh === undefined ? others : { ...object, [name]: fresh };
}

const words = {
	accel: { auto: 'KVM where it works', kvm: 'KVM only', tcg: 'Emulation' },
	display: { virtio: 'Screen, keyboard and tablet', none: 'None, only the serial console' },
	crash: { restart: 'Start it again', off: 'Leave it off', keep: 'Keep it as it is, to be looked at' },
	gate: { none: 'At once', agent: 'When its guest agent answers', port: 'When its port opens', time: 'After a time' },
	shutdown: { shutdown: 'Ask the guest to shut down', suspend: 'Suspend it', poweroff: 'Power it off' },
};

const Machine = ({ form }) => html`<section class="sheet"><h2>Machine</h2><div class="pair">
	<${Setting} form=${form} path="cpus" label="CPUs" />
	<${Setting} form=${form} path="cpu_weight" label="CPU weight" told />
	<${Setting} form=${form} path="cpu_limit_percent" label="CPU limit" unit="%" told />
	<${Setting} form=${form} path="memory_bytes" label="Memory" />
	<${Setting} form=${form} path="memory_max_bytes" label="Memory can grow to" note="While it runs. Empty: it cannot grow." />
	<${Setting} form=${form} path="accel" label="Runs by" words=${words.accel} />
	<${Setting} form=${form} path="display" label="Display" words=${words.display} />
	<${Setting} form=${form} path="on_crash" label="After a crash" words=${words.crash} />
	</div>
	<${Setting} form=${form} path="guest_agent" label="Guest agent" told />
</section>`;

function WithHost({ form }) {
	const { autostart, startup, shutdown } = form.config;
	return html`<section class="sheet"><h2>Start and shutdown with the host</h2>
		<${Setting} form=${form} path="autostart" label="Start it with the host" />
		<div class="pair">
			<${Setting} form=${form} path="startup/order" label="Order" told />
			${autostart && html`<${Setting} form=${form} path="startup/delay_s" label="Delay" unit="s" told />
				<${Setting} form=${form} path="startup/gate" label="The next order begins" words=${words.gate} />
				${startup.gate === 'port' && html`<${Setting} form=${form} path="startup/port" label="Its port" told />`}
				${startup.gate !== 'none' && html`<${Setting} form=${form} path="startup/patience_s" unit="s" label=${startup.gate === 'time' ?
					'After' : 'At the latest after'} />`}`}
			<${Setting} form=${form} path="shutdown/action" label="When the host shuts down" words=${words.shutdown} />
			${shutdown.action !== 'poweroff' && html`<${Setting} form=${form} path="shutdown/timeout_s" label="Time for that" unit="s" told />`}
		</div></section>`;
}

function Kernel({ form, files }) {
	const { kernel } = form.config;
	const line = (name, label, kind) => {
		const pointer = `/config/kernel/${name}`, control = { name, value: kernel[name], onInput: e => form.put(['kernel', name], e.target.value) };
		return html`<${Field} label=${marked(form, label, pointer)} pointer=${pointer} problem=${form.problem}>
			${kind ? html`<${FileInput} kind=${kind} files=${files} ...${control} />` : html`<input class="mono" spellcheck=${false} ...${control} />`}<//>`;
	};
	return html`<section class="sheet"><h2>Linux kernel</h2>${line('image', 'Kernel', 'kernel')}${line('initrd', 'Initial RAM disk', 'initrd')}
		${line('command_line', 'Command line')}</section>`;
}

function Storage({ vm, form, files }) {
	const { cdroms } = form.config;
	return html`<section class="sheet"><h2>Disks and CD drives</h2>
		<${DiskRows} vm=${vm} mark=${pointer => marked(form, '', pointer)} />
		${Object.keys(cdroms).map(name => html`<${Field} key=${name} label=${marked(form, `CD in ${name}`, `/config/cdroms/${name}`)}
			pointer=${`/config/cdroms/${name}`} problem=${form.problem} note="Empty: no disc.">
			<${FileInput} kind="iso" files=${files} name=${`cd-${name}`} value=${cdroms[name].iso}
				onInput=${e => form.put(['cdroms', name, 'iso'], e.target.value)} /><//>`)}
	</section>`;
}

function Networks({ form }) {
	const { nics } = form.config;
	return Object.keys(nics).length > 0 && html`<section class="sheet"><h2>Network cards</h2>
		${Object.entries(nics).map(([name, nic]) => html`<fieldset key=${name} class="nic"><legend>
				${marked(form, name, `/config/nics/${name}/network`, `/config/nics/${name}/model`, `/config/nics/${name}/forwards`)}
				${' '}<span class="quiet">${nic.network}, ${nic.model}, <span class="mono">${nic.mac}</span></span></legend>
			<${Setting} form=${form} path=${`nics/${name}/connected`} label="Its cable is plugged in" />
			${(nic.network === 'nat' || nic.forwards.length > 0) && html`<${ForwardRows} nic=${name} rows=${nic.forwards} problem=${form.problem}
				onChange=${rows => form.put(['nics', name, 'forwards'], rows)} />`}</fieldset>`)}
	</section>`;
}

const UsbDevices = ({ form }) => html`<section class="sheet"><h2>USB devices</h2>
	<${UsbRows} form=${form} mark=${pointer => marked(form, '', pointer)} /></section>`;

export function VmSettings({ vm }) {
	const [shown, setShown] = useState(vm);
	const [f, setF] = useState(() => formOf(vm));
	const [busy, setBusy] = useState(false);
	const [problem, setProblem] = useState(null);
	const files = useFiles();
	const from = formOf(shown), body = patchOf(from, f);
	const stale = shown.revision < vm.revision;	// what was saved here may be known before its event comes
	const load = fresh => {
		setShown(fresh);
		setF(formOf(fresh));
		setProblem(null);
	};
	// What is wrong may stand at a field that is out of sight; or at one that isn't shown now, then it stands on top.
	const page = useRef(), [atField, setAtField] = useState(true);
	useEffect(() => {
		const wrong = problem && page.current.querySelector('.wrong');
		setAtField(!problem || Boolean(wrong));
		wrong?.scrollIntoView({ block: 'center' });
	}, [problem]);
	const untouched = stale && !body && !busy;
	useEffect(() => {
		if (untouched)
			load(vm);
	}, [untouched]);
	const set = change => setF(old => ({ ...old, ...change }));
	const at = pointer => ({ pointer, problem });
	const form = { vm, config: f.config, problem, put: (path, value) => setF(old => ({ ...old, config: putAt(old.config, path, value) })) };

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
	if (!schemasAreRead())
		return html`<p class="quiet" role="status">Reading what can be set.</p>`;
	return html`<form class="settings" ref=${page} onSubmit=${submit}>
		${vm.pending?.length > 0 && html`<div class="notice" data-tone="held"><p>Marked values take effect when the VM is powered off and on again.
			${Object.entries(vm.pending_reasons ?? {}).map(([p, why]) => html`<br key=${p} /><b>${p.replace('/config/', '')}</b>: ${why}.`)}</p></div>`}
		<${ProblemNote} problem=${problem} pointers=${atField ? pointers : []} />
		${stale && body && html`<p class="notice" data-tone="held">${vm.name} was changed meanwhile.
			<button type="button" onClick=${() => load(vm)}>Show it as it is now</button></p>`}
		<fieldset class="bare" disabled=${!can('vm.configure') || busy} key=${shown.revision}>
			<section class="sheet"><h2>General</h2><div class="pair">
				<${Field} label="Name" ...${at('/name')}><input name="name" value=${f.name} required maxlength="63" spellcheck=${false}
					onInput=${e => set({ name: e.target.value })} /><//>
				<${Field} label="Labels" ...${at('/labels')} note="Words or key:value, with spaces."><input name="labels" value=${f.labels}
					spellcheck=${false} onInput=${e => set({ labels: e.target.value })} /><//></div>
				<${Setting} form=${form} path="description" label="Note" />
			</section>
			<${Machine} form=${form} />
			<${WithHost} form=${form} />
			${vm.config.firmware === 'kernel' && html`<${Kernel} form=${form} files=${files} />`}
			<${Storage} vm=${vm} form=${form} files=${files} />
			<${Networks} form=${form} />
			<${UsbDevices} form=${form} />
		</fieldset>
		${can('vm.configure') && html`<div class="save" data-shown=${Boolean(body)}>
			<span class="quiet">${body ? isAlive(vm) ? 'What a running VM cannot take over waits for its next start.' : 'Not saved yet.' : ''}</span>
			<span class="fill"></span>
			<button type="button" disabled=${!body || busy} onClick=${() => load(vm)}>Discard</button>
			<button class="primary" disabled=${!body || busy}>Save</button></div>`}
	</form>`;
}
