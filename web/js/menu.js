// menu.js: a button with a list of acts below it.
import { html, useLayoutEffect, useRef, useState } from './lib.js';
import { Icon } from './icons.js';

// @items: { words, icon, act, why (a reason: greyed out), tone } or { note } or null
export function Menu({ label, title, items, kind = '' }) {
	const [open, setOpen] = useState(false);
	const root = useRef();

	useLayoutEffect(() => {
		if (!open)
			return;
		root.current.querySelector('[role=menuitem]:not([disabled])')?.focus();
		const outside = e => root.current?.contains(e.target) || setOpen(false);
		addEventListener('pointerdown', outside);
		return () => removeEventListener('pointerdown', outside);
	}, [open]);

	const onKey = e => {
		const acts = [...root.current.querySelectorAll('[role=menuitem]:not([disabled])')];
		const at = acts.indexOf(document.activeElement);
		const step = { ArrowDown: 1, ArrowUp: -1 }[e.key];
		if (e.key === 'Escape' && open) {
			setOpen(false);
			root.current.querySelector('button').focus();
		} else if (step && open) {
			e.preventDefault();
			acts[(at + step + acts.length) % acts.length]?.focus();
		}
	};
	const leave = e => open && e.relatedTarget && !root.current.contains(e.relatedTarget) && setOpen(false);

	return html`<div class="menu" ref=${root} onKeyDown=${onKey} onFocusOut=${leave}>
		<button type="button" class=${'menu-button ' + kind} aria-haspopup="menu" aria-expanded=${open} title=${title} onClick=${() => setOpen(!open)}>
			${label}<${Icon} name="down" /></button>
		${open && html`<div class=${'menu-list ' + kind} role="menu">${items.filter(Boolean).map(item => item.note ?
			html`<p class="menu-note">${item.note}</p>` :
			html`<button type="button" role="menuitem" data-tone=${item.tone} disabled=${Boolean(item.why)} title=${item.why || item.help} onClick=${() => {
				setOpen(false);
				item.act();
			}}><${Icon} name=${item.icon} />${item.words}</button>`)}</div>`}
	</div>`;
}
