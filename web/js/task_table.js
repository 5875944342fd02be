// task_table.js: tasks as rows, with their progress, their problem, and a way to cancel them.
import { html, useState } from './lib.js';
import { del } from './api.js';
import { Ago, bytes, span } from './format.js';
import { Icon } from './icons.js';
import { link } from './router.js';
import { can, findVm, isUnderWay } from './store.js';
import { taskStateWords, taskWords } from './task_words.js';
import { told } from './toasts.js';

// Where a step counts bytes.
const moved = task => !task.total_bytes ? '' : `, ${bytes(task.done_bytes)} of ${bytes(task.total_bytes)}${
	task.bytes_per_s ? `, ${bytes(task.bytes_per_s)}/s` : ''}`;

function Result({ task }) {
	if (isUnderWay(task))
		return html`<div class="progress"><progress max="100" value=${task.progress} aria-label="Progress"></progress>
			<span class="cut">${task.state === 'undoing' ? 'Undoing: ' : ''}${task.note ?? task.step ?? ''}${moved(task)}</span></div>`;
	return html`<span class="result" data-state=${task.state}><${Icon} name=${{ done: 'check', failed: 'alert' }[task.state] ?? 'close'} />
		<span class="cut">${task.error?.detail && task.state !== 'done' ? task.error.detail : taskStateWords[task.state] ?? task.state}</span></span>`;
}

function Target({ task }) {
	const vm = findVm(task.target);
	return vm ? html`<a href=${link('vms', vm.name)}>${vm.name}</a>` : task.target_name || task.target;
}

function Detail({ task, columns }) {
	const { error } = task;
	return html`<tr class="detail"><td colspan=${columns}><p>${error.detail}</p>${error.hint && html`<p class="hint">${error.hint}</p>`}
		<p class="quiet">${error.title} · task ${task.id}</p></td></tr>`;
}

function Row({ task, target, columns }) {
	const [open, setOpen] = useState(false);
	const tells = Boolean(task.error?.detail);
	const took = task.finished && Date.parse(task.finished) - Date.parse(task.created);
	return html`<tr data-state=${task.state}>
		<td class="name">${tells ? html`<button class="fold" aria-expanded=${open} onClick=${() => setOpen(!open)}>
			<${Icon} name=${open ? 'down' : 'right'} />${taskWords(task.kind)}</button>` : html`<span class="unfold">${taskWords(task.kind)}</span>`}</td>
		${target && html`<td><${Target} task=${task} /></td>`}
		<td class="wide">${task.user}</td>
		<td class="wide number"><${Ago} time=${task.created} /></td>
		<td class="wide number quiet">${task.finished ? (took < 1000 ? '< 1 s' : span(took)) : ''}</td>
		<td class="rest"><${Result} task=${task} /></td>
		<td class="act">${task.cancellable && can('vm.power') && html`<button class="plain" onClick=${() =>
			told('Cancelling failed', del(`/tasks/${task.id}`))}>Cancel</button>`}</td>
	</tr>${open && tells && html`<${Detail} task=${task} columns=${columns} />`}`;
}

export function TaskTable({ tasks, target = true, empty }) {
	const columns = target ? 7 : 6;
	return html`<table class="grid tasks" aria-label="Tasks"><thead><tr><th scope="col">Task</th>${target && html`<th scope="col">Target</th>`}
		<th scope="col" class="wide">User</th><th scope="col" class="wide number">Started</th><th scope="col" class="wide number">Took</th>
		<th scope="col" class="rest">Result</th><th scope="col"><span class="unseen">Cancel</span></th></tr></thead>
		<tbody>${tasks.map(t => html`<${Row} key=${t.id} task=${t} target=${target} columns=${columns} />`)}
		${tasks.length === 0 && html`<tr class="nothing"><td colspan=${columns}>${empty}</td></tr>`}</tbody></table>`;
}
