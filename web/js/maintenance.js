// maintenance.js: the host starts no VMs for a while: the strip that says so on every page, and the way in and out.
import { html } from './lib.js';
import { del, post } from './api.js';
import { ask } from './dialog.js';
import { Ago } from './format.js';
import { Icon } from './icons.js';
import { can, host, isUnderWay, taskList } from './store.js';
import { told } from './toasts.js';

const drains = () => taskList.value.some(task => task.kind.startsWith('host.') && isUnderWay(task));

export function MaintenanceBanner() {
	const m = host.value?.agent.maintenance;
	return m?.on && html`<p class="banner" role="status"><${Icon} name="alert" />
		<span>This host is in maintenance, set by ${m.by} <${Ago} time=${m.since} />. No VM is started.</span><span class="fill"></span>
		${can('host.manage') && html`<button disabled=${drains()} onClick=${() =>
			told('Maintenance could not be ended', del('/host/maintenance'))}>Leave maintenance</button>`}</p>`;
}

export function EnterMaintenance() {
	if (!can('host.manage') || host.value?.agent.maintenance.on)
		return null;
	return html`<button disabled=${drains()} onClick=${() => ask({
		title: 'Enter maintenance?', words: 'Enter maintenance', act: () => post('/host/maintenance'),
		text: html`<p>Every VM that runs is shut down, suspended or powered off, as its settings say, and none is started until
			maintenance is left. Those that run now are then started again.</p>`,
	})}>Enter maintenance</button>`;
}
