// dialog.js: the browser's own modal dialog, and the question that stands before an act that can't be undone.
import { html, render, useEffect, useRef, useState } from './lib.js';
import { Icon } from './icons.js';
import { ProblemNote } from './form.js';

export function Dialog({ title, onClose, children, kind = '' }) {
	const dialog = useRef();
	useEffect(() => {
		const opener = document.activeElement;
		dialog.current.showModal();
		return () => opener?.isConnected && opener.focus();
	}, []);
	return html`<dialog ref=${dialog} class=${kind} aria-label=${title} onCancel=${e => {
		e.preventDefault();
		onClose();
	}}>
		<header><h2>${title}</h2>
			<button type="button" class="plain icon-only" aria-label="Close" onClick=${onClose}><${Icon} name="close" /></button></header>
		${children}
	</dialog>`;
}

// Opens a dialog over the page: open(close => html`<${Dialog} ...>`)
export function open(view) {
	const root = document.createElement('div');
	const close = () => {
		render(null, root);
		root.remove();
	};
	document.body.append(root);
	render(view(close), root);
}

function Sure({ title, text, act, words, tone, close }) {
	const [busy, setBusy] = useState(false);
	const [problem, setProblem] = useState(null);
	const submit = async e => {
		e.preventDefault();
		setBusy(true);
		try {
			await act();
			close();
		} catch (why) {
			setProblem(why);
			setBusy(false);
		}
	};
	return html`<${Dialog} title=${title} onClose=${close} kind="small"><form onSubmit=${submit}>
		<div class="dialog-body">${problem && html`<${ProblemNote} problem=${problem} />`}${text}</div>
		<footer><button type="button" onClick=${close}>Cancel</button>
			<button class=${tone === 'bad' ? 'danger' : 'primary'} autofocus disabled=${busy}>${words}</button></footer>
	</form><//>`;
}

export const ask = question => open(close => html`<${Sure} ...${question} close=${close} />`);
