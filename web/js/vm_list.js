// vm_list.js: all VMs, filtered and sorted here, kept true by events.
import { html, useEffect, useMemo, useRef, useState } from './lib.js';
import { Icon } from './icons.js';
import { bytes, count, For } from './format.js';
import { go, link, route } from './router.js';
import { can, compareNames, heldBy, vmList, vms } from './store.js';
import { stateOf, StateMark, states } from './state.js';
import { taskWords } from './task_words.js';
import { openCreate } from './vm_create.js';
import { WindowTable } from './window_table.js';

const sorts = {
	name: (a, b) => compareNames(a.name, b.name),
	state: (a, b) => compareNames(states[stateOf(a)]?.words ?? '', states[stateOf(b)]?.words ?? ''),
	cpus: (a, b) => a.config.cpus - b.config.cpus,
	memory: (a, b) => a.config.memory_bytes - b.config.memory_bytes,
	since: (a, b) => Date.parse(b.status.since || 0) - Date.parse(a.status.since || 0),
};
const columns = [
	{ id: 'name', words: 'Name', sort: true },
	{ id: 'state', words: 'State', sort: true },
	{ id: 'since', words: 'For', sort: true, kind: 'number wider' },
	{ id: 'cpus', words: 'CPUs', sort: true, kind: 'number wider' },
	{ id: 'memory', words: 'Memory', sort: true, kind: 'number' },
	{ id: 'accel', words: 'Runs by', kind: 'wider' },
	{ id: 'reach', words: 'Reach it at', kind: 'wider' },
	{ id: 'note', words: 'Note', kind: 'wide rest' },
];
const groups = [
	{ value: '', words: 'All', has: () => true },
	{ value: 'on', words: 'On', has: vm => !['off', 'suspended', 'invalid'].includes(stateOf(vm)) },
	{ value: 'off', words: 'Off', has: vm => ['off', 'suspended'].includes(stateOf(vm)) },
	{ value: 'attention', words: 'Needs attention', has: vm => ['degraded', 'invalid', 'paused', 'lost'].includes(stateOf(vm)) ||
		(stateOf(vm) === 'off' && ['guest-panic', 'crashed', 'killed', 'start-failed'].includes(vm.status.last_end?.why)) },
];

// Words of the filter: each has to be in the name, the id, the description or a label.
export function matches(vm, text) {
	const hay = [vm.name, vm.id, vm.config.description ?? '', ...Object.entries(vm.labels ?? {}).map(([k, v]) => `${k}:${v}`)]
		.join('\n').toLowerCase();
	return text.toLowerCase().split(/\s+/).every(word => hay.includes(word));
}

const accelWords = { kvm: 'KVM', tcg: 'Emulation', sim: 'Simulation' };
export const forwards = vm => Object.values(vm.config.nics ?? {}).flatMap(nic => nic.forwards ?? []);

function Note({ vm }) {
	const task = heldBy(vm);
	if (task?.kind)
		return html`${taskWords(task.kind)}${task.progress > 0 && `, ${task.progress} %`}`;
	if (vm.status.problem || vm.status.note)
		return vm.status.problem || vm.status.note;
	if (vm.pending?.length)
		return html`<span class="tag" title=${vm.pending.join(', ')}>${count(vm.pending.length, 'change')} at next start</span>`;
	return vm.config.description ?? '';
}

function Row({ vm }) {
	return html`<tr>
		<td class="name"><a href=${link('vms', vm.name)}>${vm.name}</a></td>
		<td><${StateMark} vm=${vm} /></td>
		<td class="number wider quiet">${vm.status.state !== 'off' && html`<${For} since=${vm.status.since} />`}</td>
		<td class="number wider">${vm.config.cpus}</td>
		<td class="number">${bytes(vm.config.memory_bytes)}</td>
		<td class="wider" title=${vm.status.accel_reason}>${accelWords[vm.status.accel] ?? ''}</td>
		<td class="wider mono">${forwards(vm).slice(0, 1).map(f => `${f.host_address}:${f.host_port}`)}</td>
		<td class="wide rest quiet"><${Note} vm=${vm} /></td>
	</tr>`;
}

function remember(name, value) {
	const query = new URLSearchParams(route.value.query);
	if (value)
		query.set(name, value);
	else
		query.delete(name);
	go(`#/vms${query.size ?? [...query].length ? '?' + query : ''}`, { replace: true });
}

export function VmListPage() {
	const { query } = route.value;
	const [text, setText] = useState(query.get('filter') ?? '');
	const [order, setOrder] = useState({ by: 'name', down: false });
	const filter = useRef();
	const group = groups.find(g => g.value === (query.get('state') ?? '')) ?? groups[0];
	const all = vmList.value;
	const found = useMemo(() => all.filter(vm => matches(vm, text)), [all, text]);
	const shown = useMemo(() => {
		const list = found.filter(group.has).sort(sorts[order.by]);
		return order.down ? list.reverse() : list;
	}, [found, group, order]);

	useEffect(() => {
		const onKey = e => {
			if (e.key === '/' && !e.target.closest('input, textarea, select, dialog')) {
				e.preventDefault();
				filter.current.focus();
			}
		};
		addEventListener('keydown', onKey);
		return () => removeEventListener('keydown', onKey);
	}, []);

	if (!vms.value)
		return html`<div class="page"><h1>Virtual machines</h1><p class="quiet" role="status">Reading the list.</p></div>`;
	return html`<div class="page fills">
		<div class="head"><h1>Virtual machines</h1>
			${can('vm.create') && html`<button class="primary" onClick=${openCreate}><${Icon} name="plus" />Create VM</button>`}</div>
		<div class="tools">
			<label class="search"><${Icon} name="search" /><input ref=${filter} type="search" placeholder="Filter by name, label or note"
				aria-label="Filter" value=${text} onInput=${e => {
					setText(e.target.value);
					remember('filter', e.target.value);
				}} /><kbd>/</kbd></label>
			<div class="segments" role="group" aria-label="State">${groups.map(g => html`<button key=${g.value} aria-pressed=${g === group}
				onClick=${() => remember('state', g.value)}>${g.words}<span class="count">${found.filter(g.has).length}</span></button>`)}</div>
		</div>
		<div class="sheet scrolls">
			<${WindowTable} items=${shown} columns=${columns} label="Virtual machines" order=${order} onOrder=${setOrder}
				row=${vm => html`<${Row} key=${vm.id} vm=${vm} />`}
				empty=${all.length ? 'No VM matches the filter.' : html`<div class="first"><h2>No virtual machines yet</h2>
					<p>A VM boots from a disk image, an installer's ISO or a Linux kernel.</p>
					${can('vm.create') && html`<button class="primary" onClick=${openCreate}>Create the first VM</button>`}</div>`} />
		</div>
	</div>`;
}
