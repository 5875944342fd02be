// form.js: fields with their labels, and problems at the field that they are about.
import { cloneElement, html, useEffect, useRef } from './lib.js';
import { Icon } from './icons.js';
import { link } from './router.js';

let ids = 0;
function useId() {
	const id = useRef(0);
	return `f${id.current ||= ++ids}`;
}

// What stands below a control: what is wrong with it, else its note.
const Below = ({ id, wrong, problem, note }) => wrong ? html`<p class="wrong" id=${id}>${wrong.detail}${problem.hint && html`<br />${problem.hint}`}</p>` :
	note && html`<p class="hint" id=${id}>${note}</p>`;

// One control with label, note and, when @problem points at @pointer, what is wrong. The control is the only child.
export function Field({ label, note, pointer, problem, unit, children, kind = '' }) {
	const id = useId();
	const wrong = pointer && problem?.at?.(pointer);
	const control = Array.isArray(children) ? children[0] : children;
	const told = wrong || note ? `${id}-note` : null;

	const named = cloneElement(control, { id, 'aria-describedby': told, 'aria-invalid': wrong ? 'true' : null });

	return html`<div class=${'field ' + kind}>
		<label for=${id}>${label}</label>
		<div class="control">${named}${unit && html`<span class="unit">${unit}</span>`}</div>
		<${Below} id=${told} wrong=${wrong} problem=${problem} note=${note} />
	</div>`;
}

export function Check({ label, note, pointer, problem, ...rest }) {
	const id = useId();
	const wrong = pointer && problem?.at?.(pointer);
	const told = wrong || note ? `${id}-note` : null;
	return html`<div class="field check"><input type="checkbox" id=${id} aria-describedby=${told} aria-invalid=${wrong ? 'true' : null} ...${rest} />
		<label for=${id}>${label}</label><${Below} id=${told} wrong=${wrong} problem=${problem} note=${note} /></div>`;
}

// One of a few, as buttons side by side.
export function Choice({ label, name, value, options, onChoose }) {
	return html`<fieldset class="choice"><legend>${label}</legend><div class="segments">
		${options.map(o => html`<label key=${o.value}><input type="radio" name=${name} value=${o.value} checked=${value === o.value}
			onChange=${() => onChoose(o.value)} /><span>${o.words}</span></label>`)}</div></fieldset>`;
}

// A problem as a whole: its sentence, the way out, and the task that holds the object. Not shown when a field shows it.
export function ProblemNote({ problem, pointers = [] }) {
	const note = useRef();
	const shown = problem && !(problem.errors?.length && problem.errors.every(e => pointers.some(p =>
		e.pointer === p || e.pointer?.startsWith(p + '/'))));
	useEffect(() => {
		note.current?.scrollIntoView({ block: 'nearest' });
	}, [problem]);
	return shown && html`<div class="problem" role="alert" ref=${note}><${Icon} name="alert" /><div>
		<p>${problem.message}</p>
		${problem.hint && html`<p class="hint">${problem.hint}</p>`}
		${problem.permission && html`<p class="hint">The permission ${problem.permission} is missing.</p>`}
		${problem.task > 0 && html`<p class="hint"><a href=${link('tasks')}>Task ${problem.task}</a> holds it.</p>`}
	</div></div>`;
}
