// host_page.js: what this host is and can do, with reasons.
import { html, useEffect, useState } from './lib.js';
import { get, getAll } from './api.js';
import { Ago, bytes, count } from './format.js';
import { Bar, Facts } from './facts.js';
import { Icon } from './icons.js';
import { EnterMaintenance } from './maintenance.js';
import { link } from './router.js';
import { usbIds, usbName } from './usb_rows.js';
import { can, host, vmList, vms } from './store.js';
import { isAlive } from './state.js';
import { told } from './toasts.js';

const limitWords = {
	kvm: 'Hardware virtualisation (KVM)', qemu: 'QEMU for ARM guests', uefi: 'UEFI firmware for guests', 'more-than-8-vcpus': 'More than 8 CPUs a VM',
	'uniform-cores': 'Cores of one kind', 'systemd-scopes': 'A systemd scope for each VM', 'cgroup-v2': 'Limits by control groups',
	iommu: 'Passing devices through', '4k-pages': 'Pages of 4 KiB', 'memory-for-one-vm': 'All memory for one VM', 'one-numa-node': 'One NUMA node',
	vhe: 'Kernel in EL2 (VHE)', 'named-cpu-models': 'CPU models by name', 'performance-counters': 'Performance counters', sve: 'SVE',
	'pointer-authentication': 'Pointer authentication', 'memory-tagging': 'Memory tagging (MTE)', '32-bit-kernels': '32-bit kernels', landlock: 'Image tools that see their files only (Landlock)',
};
const sum = (list, of) => list.reduce((n, item) => n + of(item), 0);

function useRead(read) {
	const [value, setValue] = useState(null);
	useEffect(() => {
		read().then(setValue, () => { /* the rest of the page stands without */ });
	}, []);
	return value;
}

function Capacity({ facts }) {
	const stores = useRead(async () => can('storage.view') ? getAll('/datastores') : []);
	const on = vmList.value.filter(isAlive);
	const memory = sum(on, vm => vm.config.memory_bytes), cpus = sum(on, vm => vm.config.cpus);
	return html`<section class="sheet"><h2>Capacity</h2><ul class="meters">
		<li><div><b>Memory of running VMs</b><span>${bytes(memory)} of ${bytes(facts.memory_bytes)}</span></div>
			<${Bar} label="Memory of running VMs" used=${memory} total=${facts.memory_bytes} /></li>
		<li><div><b>CPUs of running VMs</b><span>${cpus} on ${facts.cpus}</span></div>
			<${Bar} label="CPUs of running VMs" used=${cpus} total=${facts.cpus} full="fine" /></li>
		${stores?.map(s => html`<li key=${s.id}><div><b><a href=${link('datastores', s.name)}>${s.name}</a></b>
			<span>${s.status.capacity_bytes ? `${bytes(s.status.free_bytes)} free of ${bytes(s.status.capacity_bytes)}` : s.status.reason}</span></div>
			<${Bar} label=${s.name} used=${s.status.capacity_bytes - s.status.free_bytes} total=${s.status.capacity_bytes} /></li>`)}
	</ul></section>`;
}

// Examined when somebody asks for it: it looks at every file.
function Doctor() {
	const [found, setFound] = useState(null);
	const [busy, setBusy] = useState(false);
	const examine = async () => {
		setBusy(true);
		await told('The host could not be examined', get('/host/doctor').then(setFound));
		setBusy(false);
	};
	return html`<section class="sheet doctor" aria-label="Doctor"><h2>Doctor</h2>
		<p class="ask"><button onClick=${examine} disabled=${busy}>${busy ? 'Examining' : 'Examine'}</button>
			<span class="quiet" role="status">${found ? html`${found.findings.length ? [count(found.errors, 'error'), count(found.warnings, 'warning'),
				count(found.notes, 'note')].join(', ') : 'Nothing found'}, ${count(found.looked_at, 'thing')} looked at <${Ago} time=${found.as_of} />` :
				'Looks for what is not as it should be, and says what mends it.'}</span></p>
		${found?.findings.length > 0 && html`<ul class="limits">${found.findings.map((f, i) => html`<li key=${i} data-severity=${f.severity}>
			<${Icon} name=${f.severity === 'note' ? 'info' : 'alert'} label=${f.severity} />
			<div><b>${f.text}</b>${f.hint && html`<div class="path">${f.hint}</div>`}</div></li>`)}</ul>`}</section>`;
}

const kvmText = kvm => [kvm.gic && `GICv${kvm.gic}`, kvm.ipa_bits && `${kvm.ipa_bits} address bits`, kvm.max_vcpus && `up to ${kvm.max_vcpus} CPUs a VM`,
	kvm.sve && 'SVE', kvm.pmu && 'PMU', kvm.aarch32 && '32-bit guests', kvm.mode].filter(Boolean).join(', ');

export function HostPage() {
	const networks = useRead(async () => getAll('/networks'));
	const usb = useRead(() => getAll('/host/usb'));
	// The counts of the agent are of the moment that it is asked.
	const now = useRead(() => get('/host')) ?? host.value;
	if (!now)
		return html`<div class="page"><h1>Host</h1><p class="quiet" role="status">Reading the host.</p></div>`;
	const { facts, agent } = now;
	const on = vmList.value.filter(isAlive).length;
	return html`<div class="page">
		<div class="head"><div class="title line"><h1>${agent.hostname}</h1>
			<p class="status"><span class="quiet">${facts.board ?? facts.arch}</span>
				<span class="tag" data-tone=${facts.accel === 'kvm' ? 'on' : 'held'} title=${facts.accel_reason}>
					${facts.accel === 'kvm' ? 'KVM' : 'Emulation'}</span>
				${vms.value && html`<a href=${link('vms')}>${count(vms.value.size, 'VM')}</a><span class="quiet">${on} on</span>`}</p></div>
			<${EnterMaintenance} /></div>
		<div class="columns">
			<section class="sheet"><h2>Hardware</h2><${Facts} rows=${[
				facts.board && ['Model', facts.board],
				['Architecture', facts.arch, `${facts.page_bytes / 1024} KiB pages`],
				['CPUs', String(facts.cpus), facts.cpu_types?.map(t => `${t.count} × ${t.name}${facts.cpu_types.length > 1 ? ` (${t.list})` : ''}`).join(', ')],
				['Memory', bytes(facts.memory_bytes)],
				facts.nodes?.length > 1 && ['NUMA', facts.nodes.map(n => html`<div>node ${n.id}: ${n.cpus} CPUs, ${bytes(n.memory_bytes)}</div>`)],
			]} /></section>
			<${Capacity} facts=${facts} />
			<section class="sheet"><h2>Virtualisation</h2><${Facts} rows=${[
				['VMs run by', facts.accel === 'kvm' ? 'KVM' : 'Emulation', facts.accel_reason],
				facts.kvm?.usable && ['KVM', kvmText(facts.kvm)],
				['QEMU', facts.qemu?.version ?? html`<span class="quiet">not installed</span>`, facts.qemu?.machine && `new VMs are of type ${facts.qemu.machine}`],
				['UEFI', facts.firmware?.code ? html`<span class="path">${facts.firmware.code}</span>` : html`<span class="quiet">not installed</span>`],
				networks && ['Networks', networks.map(n => html`<div key=${n.id}>${n.name} <span class="quiet">${n.config.kind === 'user' ?
					'private, behind NAT' : n.config.kind}</span></div>`)],
				usb?.length > 0 && ['USB devices', usb.map(d => html`<div key=${d.port}>${usbName(d)} <span class="quiet mono">${usbIds(d)}</span>
					<span class="quiet"> port ${d.port}${d.vm && `, ${d.vm} has it`}</span></div>`)],
			]} /></section>
			<section class="sheet"><h2>Host agent</h2><${Facts} rows=${[
				['Croft', agent.version],
				['Started', html`<${Ago} time=${agent.started} />`],
				['Kernel', facts.kernel],
				agent.orphans.length > 0 && ['Guests without a VM', agent.orphans.map(o => html`<div key=${o.id}>${o.name ?? o.id}
					<small>${o.why}${o.pid > 0 && `; process ${o.pid}`}. It is left alone.</small></div>`)],
				['State in', html`<span class="path">${agent.home}</span>`],
			]} /></section>
		</div>
		<${Doctor} />
		<section class="sheet"><h2>What can be had here</h2><ul class="limits">${facts.limits?.map(l => html`<li key=${l.what} data-has=${l.available}>
			<${Icon} name=${l.available ? 'check' : 'close'} label=${l.available ? 'yes' : 'no'} />
			<div><b>${limitWords[l.what] ?? l.what}</b><p>${l.reason}</p></div></li>`)}</ul></section>
	</div>`;
}
