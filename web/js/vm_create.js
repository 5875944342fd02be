// vm_create.js: a new VM on one page: what it boots, and how large it is. The rest has defaults.
import { html, useState } from './lib.js';
import { post } from './api.js';
import { go, link } from './router.js';
import { can, host } from './store.js';
import { bytes } from './format.js';
import { Dialog, open } from './dialog.js';
import { Check, Choice, Field, ProblemNote } from './form.js';
import { FileInput, useFiles } from './file_input.js';
import { SizeInput } from './size_input.js';

const GIB = 1024 ** 3;
const boots = [
	{ value: 'image', words: 'Disk image' },
	{ value: 'iso', words: 'Installer ISO' },
	{ value: 'kernel', words: 'Linux kernel' },
];
const DISK = 'disk0', CD = 'cd0', NIC = 'net0';
const pointers = {
	name: '/name', cpus: '/config/cpus', memory: '/config/memory_bytes', source: `/config/disks/${DISK}/source`,
	disk: `/config/disks/${DISK}/size_bytes`, iso: `/config/cdroms/${CD}/iso`, kernel: '/config/kernel/image', initrd: '/config/kernel/initrd',
	line: '/config/kernel/command_line', ssh: `/config/nics/${NIC}`, description: '/config/description',
};

const first = { boot: 'image', name: '', cpus: '2', memory: 2 * GIB, source: '', disk: 0, iso: '', kernel: '', initrd: '',
		line: 'console=tty0 console=ttyAMA0', display: true, ssh: '', description: '', start: true };
const diskOf = { image: 0, iso: 16 * GIB, kernel: 0 };

// What the form says, as the API wants it.
export function vmOf(f) {
	const config = { cpus: Number(f.cpus), memory_bytes: f.memory, firmware: f.boot === 'kernel' ? 'kernel' : 'uefi',
			 display: f.display ? 'virtio' : 'none', nics: { [NIC]: { network: 'nat' } } };
	if (f.description)
		config.description = f.description;
	if (f.ssh)
		config.nics[NIC].forwards = [{ protocol: 'tcp', host_port: Number(f.ssh), guest_port: 22 }];
	if (f.boot === 'kernel')
		config.kernel = { image: f.kernel, ...(f.initrd && { initrd: f.initrd }), ...(f.line && { command_line: f.line }) };
	if (f.boot === 'image')
		config.disks = { [DISK]: { source: f.source, boot_order: 1, ...(f.disk && { size_bytes: f.disk }) } };
	else if (f.disk)
		config.disks = { [DISK]: { size_bytes: f.disk, ...(f.boot === 'iso' && { boot_order: 1 }) } };
	if (f.boot === 'iso')
		config.cdroms = { [CD]: { iso: f.iso, boot_order: 2 } };
	return { name: f.name, config, start: f.start };
}

function Boot({ f, set, problem, files }) {
	const at = name => ({ pointer: pointers[name], problem });
	const text = name => ({ name, value: f[name], onInput: e => set({ [name]: e.target.value }) });
	const upload = can('storage.write') && html`Upload one on the page <a href=${link('datastores')}>Datastores</a>.`;
	if (f.boot === 'kernel')
		return html`<${Field} label="Kernel" ...${at('kernel')} note=${upload}>
				<${FileInput} kind="kernel" files=${files} ...${text('kernel')} required /><//>
			<${Field} label="Initial RAM disk" ...${at('initrd')}><${FileInput} kind="initrd" files=${files} ...${text('initrd')} /><//>
			<${Field} label="Command line" ...${at('line')}><input class="mono" ...${text('line')} spellcheck=${false} /><//>`;
	if (f.boot === 'iso')
		return html`<${Field} label="ISO file" ...${at('iso')} note=${upload}><${FileInput} kind="iso" files=${files} ...${text('iso')} required /><//>`;
	return html`<${Field} label="Image" ...${at('source')} note=${html`A qcow2 or raw image for arm64; it is copied. ${upload}`}>
		<${FileInput} kind="image" files=${files} ...${text('source')} required /><//>`;
}

function CreateDialog({ close }) {
	const [f, setF] = useState(first);
	const [busy, setBusy] = useState(false);
	const [problem, setProblem] = useState(null);
	const files = useFiles();
	const set = change => setF(old => ({ ...old, ...change }));
	const at = name => ({ pointer: pointers[name], problem });
	const facts = host.value?.facts;

	const submit = async start => {
		setBusy(true);
		setProblem(null);
		try {
			const task = await post('/vms', vmOf({ ...f, start }));
			close();
			go(link('vms', task.target_name || f.name));
		} catch (why) {
			setProblem(why);
			setBusy(false);
		}
	};
	return html`<${Dialog} title="Create VM" onClose=${close}><form onSubmit=${e => {
		e.preventDefault();
		submit(e.submitter?.value !== 'only');
	}}>
		<div class="dialog-body">
			<${ProblemNote} problem=${problem} pointers=${Object.values(pointers)} />
			<${Field} label="Name" ...${at('name')}><input name="name" value=${f.name} required autofocus spellcheck=${false} autocapitalize="off"
				maxlength="63" onInput=${e => set({ name: e.target.value })} /><//>
			<${Choice} label="Boots from" name="boot" value=${f.boot} options=${boots}
				onChoose=${boot => set({ boot, disk: diskOf[boot] })} />
			<${Boot} f=${f} set=${set} problem=${problem} files=${files} />
			<div class="pair">
				<${Field} label="CPUs" ...${at('cpus')} note=${facts && `The host has ${facts.cpus}.`}>
					<input name="cpus" type="number" min="1" max="512" required value=${f.cpus} onInput=${e => set({ cpus: e.target.value })} /><//>
				<${Field} label="Memory" ...${at('memory')} note=${facts && `The host has ${bytes(facts.memory_bytes)}.`}>
					<${SizeInput} name="memory" value=${f.memory} onChange=${memory => set({ memory })} /><//>
			</div>
			<div class="pair">
				<${Field} label="Disk" key=${f.boot} ...${at('disk')} note=${{ image: 'Empty: as large as the image.', iso: '',
					kernel: 'Empty: no disk.' }[f.boot]}>
					<${SizeInput} name="disk" least="GiB" value=${f.disk} onChange=${disk => set({ disk })} /><//>
				<${Field} label="SSH at host port" ...${at('ssh')} note="Empty: no forwarded port.">
					<input name="ssh" type="number" min="1" max="65535" placeholder="2222" value=${f.ssh} onInput=${e => set({ ssh: e.target.value })} /><//>
			</div>
			<${Field} label="Note" ...${at('description')}><input name="description" value=${f.description} maxlength="1024"
				onInput=${e => set({ description: e.target.value })} /><//>
			<${Check} name="display" label="Screen, keyboard and tablet" note="The serial console is always there."
				checked=${f.display} onChange=${e => set({ display: e.target.checked })} />
		</div>
		<footer><button type="button" onClick=${close}>Cancel</button><button class="primary last" value="start" disabled=${busy}>Create and power on</button>
			<button value="only" disabled=${busy}>Create only</button></footer>
	</form><//>`;
}

export const openCreate = () => open(close => html`<${CreateDialog} close=${close} />`);
