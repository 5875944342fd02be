// task_page.js: all tasks, newest first; older ones are read when they are asked for.
import { html, useState } from './lib.js';
import { get } from './api.js';
import { taskList, isUnderWay } from './store.js';
import { TaskTable } from './task_table.js';
import { told } from './toasts.js';

const groups = [
	{ value: '', words: 'All', has: () => true },
	{ value: 'running', words: 'Under way', has: isUnderWay },
	{ value: 'failed', words: 'Failed', has: t => t.state === 'failed' },
];

export function TaskPage() {
	const [older, setOlder] = useState([]);
	const [next, setNext] = useState(undefined);
	const [group, setGroup] = useState(groups[0]);
	const latest = taskList.value;
	const all = [...latest, ...older.filter(t => t.id < (latest.at(-1)?.id ?? Infinity))];
	const shown = all.filter(group.has);

	const more = async () => {
		const after = next ?? latest.at(-1)?.id;
		await told('Older tasks could not be read', get(`/tasks?limit=200&after=${after}`).then(page => {
			setOlder(o => [...o, ...page.items]);
			setNext(page.next);
		}));
	};
	return html`<div class="page fills">
		<div class="head"><h1>Tasks</h1></div>
		<div class="tools"><div class="segments" role="group" aria-label="State">${groups.map(g => html`<button key=${g.value}
			aria-pressed=${g === group} onClick=${() => setGroup(g)}>${g.words}<span class="count">${all.filter(g.has).length}</span></button>`)}
		</div></div>
		<div class="sheet scrolls"><${TaskTable} tasks=${shown} empty=${all.length ? 'No such task.' : 'Nothing was done yet.'} />
			${next !== null && latest.length >= 100 && html`<p class="more"><button onClick=${more}>Older tasks</button></p>`}</div>
	</div>`;
}
