// vm_summary.js: a VM at a glance: how it ended, what it is made of, how to reach it.
import { html } from './lib.js';
import { Icon } from './icons.js';
import { Ago, bytes } from './format.js';
import { Facts } from './facts.js';
import { hasScreen, isAlive } from './state.js';
import { can } from './store.js';
import { PathText } from './path_text.js';
import { ScreenThumb } from './screen_view.js';
import { usbWords } from './usb_rows.js';

const accelWords = { kvm: 'KVM, on the host’s own CPU', tcg: 'Emulation', sim: 'Simulation' };
const accelWanted = { auto: 'KVM where it works', kvm: 'KVM only', tcg: 'Emulation' };
const firmwareWords = { uefi: 'UEFI', kernel: 'Linux kernel, booted directly' };
const bad = ['guest-panic', 'crashed', 'killed', 'start-failed', 'host-restarted', 'unknown'];

function Notices({ vm }) {
	const { problem, note, question, last_end: end, state } = vm.status;
	const notices = [];
	if (problem)
		notices.push({ tone: 'bad', text: problem });
	if (note && !question)
		notices.push({ tone: state === 'degraded' || state === 'lost' ? 'bad' : 'held', text: note });
	if (state === 'off' && end && bad.includes(end.why))
		notices.push({ tone: 'bad', text: html`The last run ended <${Ago} time=${end.when} />: ${end.explanation}.`, more: end.message });
	return notices.map(n => html`<div class="notice" data-tone=${n.tone}><${Icon} name="alert" /><div><p>${n.text}</p>
		${n.more && html`<pre>${n.more}</pre>`}</div></div>`);
}

// What the guest has, where that is not what it shall have.
function memoryNote({ current_bytes: current, wanted_bytes: wanted, as_of: asOf }, config) {
	if (current > 0 && current !== wanted)
		return html`the guest has ${bytes(current)} now, told <${Ago} time=${asOf} />`;
	return config.memory_max_bytes > 0 && `it can grow to ${bytes(config.memory_max_bytes)} while it runs`;
}

function Devices({ vm }) {
	const { disks = {}, cdroms = {}, nics = {} } = vm.config;
	const rows = [
		...Object.entries(disks).map(([name, d]) => ({ icon: 'disk', name, is: `Disk, ${d.bus}`, size: d.size_bytes ? bytes(d.size_bytes) : '',
			what: html`<${PathText} path=${d.path || d.source || ''} />` })),
		...Object.entries(cdroms).map(([name, c]) => ({ icon: 'disc', name, is: 'CD drive', size: '',
			what: c.iso ? html`<${PathText} path=${c.iso} />` : html`<span class="quiet">empty</span>` })),
		...Object.entries(nics).map(([name, n]) => ({ icon: 'network', name, is: `NIC, ${n.model}`, size: '',
			what: html`${n.network} <span class="mono quiet">${n.mac}</span>${!n.connected && ', its cable is unplugged'}` })),
		...vm.status.usb.map(u => ({ icon: 'usb', name: u.name, is: 'USB device', size: '', what: usbWords(u) })),
	];
	return html`<section class="sheet"><h2>Devices</h2>
		${rows.length ? html`<table class="plain-table"><tbody>${rows.map(r => html`<tr key=${r.is + r.name}>
			<th scope="row"><${Icon} name=${r.icon} />${r.name}</th><td class="quiet">${r.is}</td><td class="number">${r.size}</td>
			<td class="rest">${r.what}</td></tr>`)}</tbody></table>` : html`<p class="quiet">No disks, drives, network cards or USB devices.</p>`}
	</section>`;
}

// What the guest tells of itself: strings from a stranger, shown as text.
function Guest({ guest: g }) {
	const silent = { off: 'not wanted', absent: 'none runs in the guest', silent: 'runs, but does not answer' };
	return html`<section class="sheet"><h2>Guest</h2><${Facts} rows=${[
		g.os && ['System', g.os, g.kernel && `kernel ${g.kernel}`],
		g.hostname && ['Host name', g.hostname],
		g.addresses.length > 0 && ['Addresses', g.addresses.map(a => html`<div key=${a.interface + a.address}><span class="mono">${a.address}</span>
			<span class="quiet"> ${a.interface}</span></div>`)],
		g.file_systems.length > 0 && ['File systems', g.file_systems.map(f => html`<div key=${f.mountpoint}><span class="mono">${f.mountpoint}</span>
			<span class="quiet"> ${f.type}${f.total_bytes > 0 && `, ${bytes(f.used_bytes)} of ${bytes(f.total_bytes)}`}</span></div>`)],
		['Agent', silent[g.agent] ?? html`${g.frozen ? 'answers, file systems are frozen' : 'answers'}`,
			g.as_of && html`told <${Ago} time=${g.as_of} />`],
	]} /></section>`;
}

function forwardLine(nic, f) {
	const host = f.host_address === '0.0.0.0' ? location.hostname : f.host_address;
	return f.protocol === 'tcp' && f.guest_port === 22 ? html`<code>ssh -p ${f.host_port} ${host}</code>` :
		html`<code>${f.protocol} ${host}:${f.host_port}</code> <span class="quiet">to port ${f.guest_port} of ${nic}</span>`;
}

export function VmSummary({ vm }) {
	const { config, status } = vm;
	const end = status.last_end;
	const reach = Object.entries(config.nics ?? {}).flatMap(([name, nic]) => (nic.forwards ?? []).map(f => forwardLine(name, f)));
	const labels = Object.entries(vm.labels ?? {});

	return html`<${Notices} vm=${vm} />
	<div class="columns">
		<div class="stack"><section class="sheet"><h2>Virtual machine</h2><${Facts} rows=${[
			config.description && ['Note', config.description],
			['Runs by', accelWords[status.accel] ?? (config.engine === 'sim' ? accelWords.sim : accelWanted[config.accel]), status.accel_reason],
			['CPUs', `${config.cpus}`, config.cpu_model && `${config.cpu_model}, machine ${config.machine}`],
			['Memory', bytes(config.memory_bytes), memoryNote(status.memory, config)],
			['Firmware', firmwareWords[config.firmware] ?? config.firmware],
			config.firmware === 'kernel' && ['Kernel', html`<${PathText} path=${config.kernel?.image ?? ''} />`],
			config.firmware === 'kernel' && config.kernel?.initrd && ['Initial RAM disk', html`<${PathText} path=${config.kernel.initrd} />`],
			config.firmware === 'kernel' && config.kernel?.command_line && ['Command line', html`<code>${config.kernel.command_line}</code>`],
			['Display', config.display === 'none' ? 'None, only the serial console' : 'Screen, keyboard and tablet'],
			config.autostart && ['Starts with the host', `in order ${config.startup.order}`],
			reach.length > 0 && ['Reach it at', reach.map(line => html`<div>${line}</div>`)],
			labels.length > 0 && ['Labels', labels.map(([k, v]) => html`<span class="tag" key=${k}>${k}${v && `: ${v}`}</span> `)],
		]} /></section>
		<${Devices} vm=${vm} /></div>
		<div class="stack">
			${hasScreen(vm) && can('vm.console') && html`<${ScreenThumb} vm=${vm} />`}
			${isAlive(vm) && config.engine !== 'sim' && html`<${Guest} guest=${status.guest} />`}
			<section class="sheet"><h2>History</h2><${Facts} rows=${[
				['Created', html`<${Ago} time=${vm.created} />`],
				status.pid > 0 && ['Process', html`<span class="mono">${status.pid}</span>`],
				(end?.when || !isAlive(vm)) && ['Last end', end?.when ? html`<${Ago} time=${end.when} />` : html`<span class="quiet">it has not run yet</span>`,
					end?.when && `${end.explanation}${end.signal && bad.includes(end.why) ? `, signal ${end.signal}` : ''}`],
				status.saved && ['Saved memory', bytes(status.saved.bytes), html`<${Ago} time=${status.saved.saved} />, by QEMU ${status.saved.qemu}`],
				['ID', html`<span class="mono">${vm.id}</span>`],
				vm.folder && ['Folder', html`<${PathText} path=${vm.folder} folder />`],
			]} /></section>
		</div>
	</div>`;
}
