// task_strip.js: the recent tasks at the foot of every page.
import { html, useState } from './lib.js';
import { Icon } from './icons.js';
import { can, isUnderWay, taskList } from './store.js';
import { link, route } from './router.js';
import { taskStateWords, taskWords } from './task_words.js';
import { TaskTable } from './task_table.js';

const KEY = 'croft.tasks', SHOWN = 20;

function remembered() {
	try {
		return localStorage.getItem(KEY);
	} catch {
		return null;
	}
}

export function TaskStrip() {
	const [open, setOpen] = useState((remembered() ?? (innerHeight > 700 && innerWidth > 800 ? 'open' : 'shut')) === 'open');
	if (!can('vm.view') || route.value.parts[0] === 'tasks')
		return null;
	const all = taskList.value;
	const busy = all.filter(isUnderWay);
	const latest = busy[0] ?? all[0];
	const fold = () => {
		setOpen(!open);
		try {
			localStorage.setItem(KEY, open ? 'shut' : 'open');
		} catch { /* then it isn't remembered */ }
	};
	return html`<section class="strip" data-open=${open} aria-label="Recent tasks">
		<header><button class="fold" aria-expanded=${open} onClick=${fold}><${Icon} name=${open ? 'down' : 'up'} />Recent tasks</button>
			${latest && !open && html`<span class="latest cut" data-state=${latest.state}>${`${taskWords(latest.kind)} ${latest.target_name}: ${
				isUnderWay(latest) ? `${latest.progress} %` : taskStateWords[latest.state] ?? latest.state}`}</span>`}
			<span class="fill"></span>
			${busy.length > 0 && html`<span class="count">${busy.length} under way</span>`}
			<a href=${link('tasks')}>All tasks</a></header>
		${open && html`<div class="strip-body"><${TaskTable} tasks=${all.slice(0, SHOWN)} empty="Nothing was done yet." /></div>`}
	</section>`;
}
