// vm_page.js: one VM: its state, what can be done with it, and its pages.
import { html, useEffect, useRef } from './lib.js';
import { Icon } from './icons.js';
import { del, post, segment } from './api.js';
import { count, For } from './format.js';
import { go, link } from './router.js';
import { can, findVm, heldBy, vms } from './store.js';
import { asks, canHaveScreen, isAlive, StateMark, whyNot } from './state.js';
import { ask as askFirst } from './dialog.js';
import { Menu } from './menu.js';
import { told } from './toasts.js';
import { taskWords } from './task_words.js';
import { VmSummary } from './vm_summary.js';
import { VmSettings } from './vm_settings.js';
import { VmTasks } from './vm_tasks.js';
import { SerialView } from './serial_view.js';
import { ScreenView } from './screen_view.js';

const tabs = {
	summary: { words: 'Summary', view: VmSummary },
	serial: { words: 'Serial console', view: SerialView, permission: 'vm.console' },
	screen: { words: 'Screen', view: ScreenView, permission: 'vm.console', has: canHaveScreen },
	settings: { words: 'Settings', view: VmSettings },
	tasks: { words: 'Tasks', view: VmTasks },
};

const path = vm => `/vms/${segment(vm.id)}`;
const doAsk = (vm, ask) => post(`${path(vm)}/${ask}`);

const sureOf = (vm, name) => ({ title: `${asks[name].words} ${vm.name}?`, text: html`<p>${asks[name].sure}</p>`, words: asks[name].words, tone: 'bad' });

function act(vm, name) {
	const { words, sure } = asks[name];
	if (!sure || vm.status.state === 'ending')
		told(`${words} ${vm.name} failed`, doAsk(vm, name));
	else
		askFirst({ ...sureOf(vm, name), act: () => doAsk(vm, name) });
}

function remove(vm) {
	const disks = Object.keys(vm.config.disks ?? {});
	askFirst({ title: `Delete ${vm.name}?`, words: 'Delete', tone: 'bad', act: async () => {
		await del(path(vm));
	}, text: html`<p>The VM is deleted${disks.length > 0 && ` with ${count(disks.length, 'disk')} (${disks.join(', ')})`}.
		This cannot be undone. ISO files and images that it was made from stay.</p>` });
}

function Power({ vm }) {
	const task = heldBy(vm);
	const why = name => whyNot(vm, name, task);
	const button = (name, kind = '') => html`<button key=${name} class=${kind} disabled=${Boolean(why(name))} data-ask=${name}
		title=${why(name) || asks[name].help} onClick=${() => act(vm, name)}><${Icon} name=${asks[name].icon} />${asks[name].words}</button>`;
	const item = name => ({ words: asks[name].words, icon: asks[name].icon, why: why(name), help: asks[name].help, act: () => act(vm, name),
				tone: asks[name].sure && 'bad' });
	const paused = vm.status.state === 'paused';
	if (!can('vm.power') && !can('vm.delete'))
		return null;
	return html`<div class="buttons" role="toolbar" aria-label="Power">
		${can('vm.power') && [isAlive(vm) ? (paused ? !vm.status.question && button('resume', 'primary') : button('shutdown')) : button('start', 'primary'),
			isAlive(vm) && !paused && button('reboot'), (isAlive(vm) || !why('poweroff')) && button('poweroff')]}
		<${Menu} label="More" title="More actions" items=${[
			...can('vm.power') ? ['pause', 'resume', 'suspend', 'reset', 'discard'].filter(name => name !== 'discard' || !why(name)).map(item) : [],
			can('vm.delete') && { words: 'Delete VM', icon: 'trash', tone: 'bad', act: () => remove(vm),
				why: isAlive(vm) ? 'only a VM that is off can be deleted' : task ? 'another task holds the VM' : '' },
		]} />
	</div>`;
}

const answers = { retry: 'Retry', poweroff: 'Power off' };

// A guest that stands still until somebody decides: its disk is full or failing.
function Question({ vm }) {
	const { question } = vm.status;
	const send = choice => post(`${path(vm)}/answer`, { choice, id: question.id });
	const answer = choice => choice === 'poweroff' ? askFirst({ ...sureOf(vm, choice), act: () => send(choice) }) :
		told(`Answering ${vm.name} failed`, send(choice));
	return html`<div class="notice question" data-tone="bad" role="alert"><${Icon} name="alert" /><div><p>${vm.name} waits: ${question.text}.</p>
		${can('vm.power') && html`<div class="buttons">${question.choices.map(c => html`<button key=${c.choice} title=${c.help}
			data-answer=${c.choice} onClick=${() => answer(c.choice)}>${answers[c.choice] ?? c.choice}</button>`)}</div>`}</div></div>`;
}

function Head({ vm, tab }) {
	const task = heldBy(vm);
	return html`<div class="head">
		<div class="title"><p class="crumb"><a href=${link('vms')}>Virtual machines</a></p>
			<div class="line"><h1 class="cut">${vm.name}</h1>
			<p class="status"><${StateMark} vm=${vm} />
				${vm.status.state !== 'off' && html`<span class="quiet">for <${For} since=${vm.status.since} /></span>`}
				${task && html`<span class="quiet">${taskWords(task.kind) || 'Busy'}${task.step && `: ${task.step}`}</span>`}
				${vm.pending?.length > 0 && html`<a class="tag" href=${link('vms', vm.name, 'settings')}>
					${count(vm.pending.length, 'change')} at next start</a>`}</p></div></div>
		<${Power} vm=${vm} />
	</div>
	<nav class="tabs" aria-label="Pages of this VM">${Object.entries(tabs).filter(([, t]) => shows(t, vm)).map(([name, t]) => html`
		<a key=${name} href=${name === 'summary' ? link('vms', vm.name) : link('vms', vm.name, name)}
			aria-current=${tab === name ? 'page' : null}>${t.words}</a>`)}</nav>`;
}

const shows = (tab, vm) => (!tab.permission || can(tab.permission)) && (!tab.has || tab.has(vm));

export function VmPage({ parts }) {
	const known = useRef(null);
	const vm = findVm(parts[1]) ?? (known.current?.key === parts[1] ? findVm(known.current.id) : null);
	const wanted = Object.hasOwn(tabs, parts[2] ?? 'summary') ? parts[2] ?? 'summary' : 'summary';

	if (vm)
		known.current = { key: parts[1], id: vm.id };
	useEffect(() => {
		// It was renamed, or the address has its id.
		if (vm && vm.name !== parts[1])
			go(link('vms', vm.name, ...parts.slice(2)), { replace: true });
	}, [vm?.name, parts[1]]);

	if (!vms.value)
		return html`<div class="page"><p class="quiet" role="status">Reading the VM.</p></div>`;
	if (!vm)
		return html`<div class="page empty"><h1>${known.current?.key === parts[1] ? `${parts[1]} was deleted` : `There is no VM ${parts[1]}`}</h1>
			<p><a href=${link('vms')}>All virtual machines</a></p></div>`;
	const tab = shows(tabs[wanted], vm) ? wanted : 'summary';
	const View = tabs[tab].view;
	return html`<div class="page fills" data-tab=${tab}><${Head} vm=${vm} tab=${tab} />
		${vm.status.question && html`<${Question} vm=${vm} />`}
		<div class="body" key=${vm.id + tab}><${View} vm=${vm} /></div></div>`;
}
