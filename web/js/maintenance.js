// maintenance.js: the host starts no VMs for a while: the strip that says so on every page, and the way in and out.
import { html } from './lib.js';
import { del, post } from './api.js';
import { ask } from './dialog.js';
import { Ago } from './format.js';
import { Icon } from './icons.js';
import { Field } from './form.js';
import { can, host, isUnderWay, taskList } from './store.js';
import { told } from './toasts.js';

const drains = () => taskList.value.some(task => task.kind.startsWith('host.') && isUnderWay(task));

const actions = { policy: 'treated as the settings of each say', shutdown: 'shut down', suspend: 'suspended', poweroff: 'powered off',
		  wait: 'left until they end by themselves' };

export function MaintenanceBanner() {
	const m = host.value?.agent.maintenance;
	return m?.on && html`<p class="banner" role="status"><${Icon} name="alert" />
		<span>This host is in maintenance, set by ${m.by} <${Ago} time=${m.since} />. ${drains() ?
			'What becomes of its VMs is under way.' : 'No VM is started.'}</span><span class="fill"></span>
		${can('host.manage') && html`<button disabled=${drains()} title=${drains() ? 'not while the task is under way; it can be cancelled' : ''} onClick=${() =>
			told('Maintenance could not be ended', del('/host/maintenance'))}>Leave maintenance</button>`}</p>`;
}

export function EnterMaintenance() {
	if (!can('host.manage') || host.value?.agent.maintenance.on)
		return null;
	let action = 'policy';
	return html`<button disabled=${drains()} onClick=${() => ask({
		title: 'Enter maintenance?', words: 'Enter maintenance', act: () => post('/host/maintenance', { action }),
		text: html`<p>No VM is started until maintenance is left. Those that run now are then started again.</p>
			<${Field} label="VMs that run are"><select name="action" value=${action} onChange=${e => { action = e.target.value; }}>
			${Object.entries(actions).map(([value, words]) => html`<option key=${value} value=${value}>${words}</option>`)}</select><//>`,
	})}>Enter maintenance</button>`;
}
