// frame.js: what stands around every page: top bar, navigator, recent tasks, toasts.
import { html, useEffect, useRef } from './lib.js';
import { Icon, Mark } from './icons.js';
import { connection } from './events.js';
import { go, link, route } from './router.js';
import { can, host, logOut, session, storeProblem, taskList, isUnderWay, vmList, vms } from './store.js';
import { StateMark } from './state.js';
import { Menu } from './menu.js';
import { ProblemNote } from './form.js';
import { Toasts, told } from './toasts.js';
import { LoginPage } from './login.js';
import { TaskStrip } from './task_strip.js';
import { HostPage } from './host_page.js';
import { VmListPage } from './vm_list.js';
import { VmPage } from './vm_page.js';
import { TaskPage } from './task_page.js';
import { DatastorePage } from './datastore_page.js';
import { MaintenanceBanner } from './maintenance.js';

const pages = {
	host: { words: 'Host', icon: 'host', page: HostPage, permission: 'host.view' },
	vms: { words: 'Virtual machines', icon: 'vm', page: VmListPage, detail: VmPage, permission: 'vm.view' },
	datastores: { words: 'Datastores', icon: 'datastore', page: DatastorePage, permission: 'storage.view' },
	tasks: { words: 'Tasks', icon: 'tasks', page: TaskPage, permission: 'vm.view' },
};
const HOME = 'vms';

function counts(name) {
	if (name === 'vms')
		return vms.value?.size;
	if (name === 'tasks')
		return taskList.value.filter(isUnderWay).length || null;
	return null;
}

// The VMs that run, up to a few: the way from one console to the next.
const NEAR = 12;
function NearVms() {
	const open = route.value.parts[0] === 'vms' ? route.value.parts[1] : null;
	const running = vmList.value.filter(vm => vm.status.state !== 'off' || vm.name === open || vm.id === open);
	return running.length > 0 && html`<ul class="near">
		${running.slice(0, NEAR).map(vm => html`<li key=${vm.id}>
			<a href=${link('vms', vm.name)} aria-current=${vm.name === open || vm.id === open ? 'page' : null}>
				<${StateMark} vm=${vm} words=${false} /><span class="cut">${vm.name}</span></a></li>`)}
		${running.length > NEAR && html`<li><a href="#/vms?state=on">${running.length - NEAR} more</a></li>`}
	</ul>`;
}

function Navigator() {
	const here = route.value.parts[0] || HOME;
	return html`<nav class="navigator" aria-label="Navigator"><ul>
		${Object.entries(pages).filter(([, p]) => can(p.permission)).map(([name, p]) => html`<li key=${name}>
			<a href=${link(name)} aria-current=${here === name && !route.value.parts[1] ? 'page' : null} data-here=${here === name}>
				<${Icon} name=${p.icon} /><span class="cut">${p.words}</span>
				${counts(name) != null && html`<span class="count">${counts(name)}</span>`}</a>
			${name === 'vms' && html`<${NearVms} />`}
		</li>`)}
	</ul></nav>`;
}

function Connection() {
	const words = { connecting: 'Connecting', live: 'Live', broken: 'Reconnecting' }[connection.value];
	return html`<span class="connection" data-state=${connection.value} role="status"
		title=${connection.value === 'live' ? 'What you see is kept true by the host' : 'What you see may be out of date'}>
		<span class="dot"></span>${words}</span>`;
}

function TopBar() {
	return html`<header class="top">
		<a class="brand" href=${link(HOME)}><${Mark} />Croft</a>
		<span class="where cut">${location.host}</span>
		<span class="fill"></span>
		<${Connection} />
		<${Menu} label=${html`<${Icon} name="user" /><span class="cut">${session.value.user}</span>`} kind="bar" title="Account"
			items=${[{ note: html`Logged in as <b>${session.value.user}</b>${session.value.role && html`, ${session.value.role}`}` },
				 { words: 'Log out', icon: 'logout', act: () => told('Logging out failed', logOut()) }]} />
	</header>`;
}

function Nowhere() {
	return html`<div class="page empty"><h1>There is no such page</h1>
		<p><a href=${link(HOME)}>Virtual machines</a></p></div>`;
}

function Page() {
	const main = useRef();
	const { parts } = route.value;
	const entry = Object.hasOwn(pages, parts[0] || HOME) ? pages[parts[0] || HOME] : null;
	const place = parts.slice(0, 2).join('/');
	useEffect(() => {
		document.title = parts[1] ? `${parts[1]} – Croft` : entry ? `${entry.words} – Croft` : 'Croft';
		main.current.scrollTop = 0;
	}, [place]);
	const Shown = !entry || !can(entry.permission) ? Nowhere : parts[1] && entry.detail ? entry.detail : entry.page;
	return html`<main ref=${main} id="main" tabindex="-1">
		<div class="banners">${connection.value === 'broken' && html`<p class="banner" role="alert"><${Icon} name="alert" />
			The connection to the host is broken. What you see may be out of date; it is being tried again.</p>`}
		${host.value?.agent.problems.map(text => html`<p class="banner" role="alert" key=${text}><${Icon} name="alert" />${text}</p>`)}
		<${MaintenanceBanner} /></div>
		${storeProblem.value && html`<${ProblemNote} problem=${storeProblem.value} />`}
		<${Shown} key=${parts[1] && entry?.detail ? 'detail' : parts[0]} parts=${parts} />
	</main>`;
}

export function App() {
	const who = session.value;
	useEffect(() => {
		if (who && !route.value.parts.length)
			go(link(HOME), { replace: true });
	}, [who]);
	if (who === undefined)
		return html`<div class="opening" role="status" aria-label="Opening"></div>`;
	if (!who)
		return html`<${LoginPage} />`;
	return html`<a class="skip" href="#main" onClick=${e => {
		e.preventDefault();
		document.getElementById('main').focus();
	}}>To the page</a>
	<div class="frame">
		<${TopBar} /><${Navigator} /><${Page} /><${TaskStrip} />
	</div>
	<${Toasts} />`;
}
