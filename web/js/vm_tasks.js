// vm_tasks.js: what was done with one VM.
import { html, useEffect, useState } from './lib.js';
import { get, segment } from './api.js';
import { taskList, tasks } from './store.js';
import { ProblemNote } from './form.js';
import { TaskTable } from './task_table.js';

export function VmTasks({ vm }) {
	const [older, setOlder] = useState([]);
	const [problem, setProblem] = useState(null);
	useEffect(() => {
		get(`/tasks?limit=200&target=${segment(vm.id)}`).then(page => setOlder(page.items), setProblem);
	}, [vm.id]);
	const mine = taskList.value.filter(t => t.target === vm.id);
	const all = [...mine, ...older.filter(t => !tasks.value.has(t.id))];
	return html`${problem && html`<${ProblemNote} problem=${problem} />`}
		<div class="sheet"><${TaskTable} tasks=${all} target=${false} empty="Nothing was done with this VM yet." /></div>`;
}
