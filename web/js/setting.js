// setting.js: one value of a VM's config with the control that fits it; limits and words come from the API document.
import { html } from './lib.js';
import { Check, Field } from './form.js';
import { fieldOf } from './schema.js';
import { SizeInput } from './size_input.js';

// Says of @pointers that something at or below them waits for a power cycle, with the host's reasons.
export function Pending({ vm, pointers }) {
	const about = p => pointers.some(pointer => p === pointer || p.startsWith(pointer + '/'));
	return vm.pending?.some(about) && html`<span class="tag" title=${Object.entries(vm.pending_reasons ?? {}).filter(([p]) => about(p))
		.map(([, why]) => why).join('; ')}>at next start</span>`;
}

export const marked = (form, words, ...pointers) => html`${words} <${Pending} vm=${form.vm} pointers=${pointers} />`;

// @form: { vm, config (as the form has it), problem, put(path, value) }. @path: "startup/order". @words: of an enum's values.
// @told: the document's description stands below, or @note does.
export function Setting({ form, path, label, words, note, told, unit }) {
	const parts = path.split('/'), name = parts.join('-'), pointer = `/config/${path}`;
	const field = fieldOf('VmConfig', parts);
	const value = parts.reduce((o, part) => o?.[part], form.config);
	const put = fresh => form.put(parts, fresh);
	const below = told ? `${field.description}.` : note;
	const at = { label: marked(form, label, pointer), pointer, problem: form.problem, note: below, unit };

	if (typeof value === 'boolean')
		return html`<${Check} name=${name} ...${at} checked=${value} onChange=${e => put(e.target.checked)} />`;
	if (words)
		return html`<${Field} ...${at}><select name=${name} value=${value} onChange=${e => put(e.target.value)}>
			${(field.enum ?? Object.keys(words)).map(v => html`<option key=${v} value=${v}>${words[v] ?? v}</option>`)}</select><//>`;
	if (/_bytes$/.test(path))
		return html`<${Field} ...${at}><${SizeInput} name=${name} value=${value} onChange=${put} /><//>`;
	if (typeof value === 'string')
		return html`<${Field} ...${at}><input name=${name} value=${value} maxlength=${field.maxLength} onInput=${e => put(e.target.value)} /><//>`;
	return html`<${Field} ...${at}><input name=${name} type="number" required min=${field.minimum} max=${field.maximum} value=${value}
		onInput=${e => put(e.target.value === '' ? '' : Number(e.target.value))} /><//>`;
}
