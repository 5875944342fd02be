// toasts.js: short notes in a corner: what failed, with the way out; what was done, where nothing else shows it.
import { html, signal } from './lib.js';
import { Icon } from './icons.js';
import { taskWords } from './task_words.js';

const KEPT = 4, SECONDS = 6;
const toasts = signal([]);
let last = 0;

function add(toast) {
	const id = ++last;
	toasts.value = [...toasts.value, { id, ...toast }].slice(-KEPT);
	if (toast.kind === 'done')
		setTimeout(() => drop(id), SECONDS * 1000);
}
const drop = id => {
	toasts.value = toasts.value.filter(t => t.id !== id);
};
export const forgetToasts = () => {
	toasts.value = [];
};

export const failedTask = task => add({ kind: 'failed', title: `${taskWords(task.kind)} ${task.target_name || ''} failed`,
	text: task.error?.detail, hint: task.error?.hint });
export const failed = (title, problem) => add({ kind: 'failed', title, text: problem.message, hint: problem.hint });
export const done = text => add({ kind: 'done', title: text });

// A promise whose failure is told by a toast. -> true when it went well
export async function told(title, promise) {
	try {
		await promise;
		return true;
	} catch (problem) {
		if (problem.name !== 'AbortError' && problem.status !== 401)
			failed(title, problem);
		return false;
	}
}

export function Toasts() {
	return html`<div class="toasts" role="log" aria-live="assertive" aria-label="Notes">
		${toasts.value.map(t => html`<div class="toast" data-kind=${t.kind} key=${t.id}>
			<${Icon} name=${t.kind === 'failed' ? 'alert' : 'check'} />
			<div class="toast-text">
				<strong>${t.title}</strong>
				${t.text && html`<p>${t.text}</p>`}
				${t.hint && html`<p class="hint">${t.hint}</p>`}
			</div>
			<button class="plain icon-only" aria-label="Dismiss" onClick=${() => drop(t.id)}><${Icon} name="close" /></button>
		</div>`)}
	</div>`;
}
