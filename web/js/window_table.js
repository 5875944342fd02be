// window_table.js: a table that draws only the rows in view, so that thousands of them cost what thirty cost.
import { html, useEffect, useLayoutEffect, useRef, useState } from './lib.js';

const SPARE = 12;

function scrollerOf(element) {
	for (let e = element; e; e = e.parentElement)
		if (/auto|scroll/.test(getComputedStyle(e).overflowY))
			return e;
	return document.scrollingElement;
}

// @columns: { id, words, kind (class), sort }; @row(item, index) -> a tr of the height --row; @order: { by, down }
export function WindowTable({ items, columns, row, label, order, onOrder, empty }) {
	const table = useRef();
	const [range, setRange] = useState({ from: 0, to: 60 });
	const height = useRef(36);

	useLayoutEffect(() => {
		const scroller = scrollerOf(table.current.parentElement);
		const look = () => {
			const body = table.current.tBodies[0];
			height.current = parseFloat(getComputedStyle(table.current).getPropertyValue('--row')) || 36;
			const above = scroller.getBoundingClientRect().top - body.getBoundingClientRect().top;
			const from = Math.max(0, Math.floor(above / height.current) - SPARE);
			const to = from + Math.ceil(scroller.clientHeight / height.current) + 2 * SPARE;
			setRange(r => r.from === from && r.to === to ? r : { from, to });
		};
		look();
		scroller.addEventListener('scroll', look, { passive: true });
		addEventListener('resize', look);
		return () => {
			scroller.removeEventListener('scroll', look);
			removeEventListener('resize', look);
		};
	}, [items.length]);

	// A row that has the focus and is scrolled away takes the focus along: give it to the table.
	useEffect(() => {
		if (document.activeElement === document.body && table.current.dataset.focused === 'yes')
			table.current.focus({ preventScroll: true });
	});
	const onKey = e => {
		const step = { ArrowDown: 1, ArrowUp: -1 }[e.key];
		const here = step && e.target.closest('tr');
		const next = step > 0 ? here?.nextElementSibling : here?.previousElementSibling;
		const target = next?.querySelector('a, button');
		if (target && e.target.matches('a, button')) {
			e.preventDefault();
			target.focus();
		}
	};

	const from = Math.min(range.from, Math.max(0, items.length - 1)), to = Math.min(range.to, items.length);
	const spacer = n => n > 0 && html`<tr aria-hidden="true" class="spacer"><td colspan=${columns.length}
		style=${{ height: `${n * height.current}px` }}></td></tr>`;
	return html`<table class="grid fixed" ref=${table} aria-label=${label} aria-rowcount=${items.length} tabindex="-1" onKeyDown=${onKey}
		onFocusIn=${e => { table.current.dataset.focused = e.target === table.current ? 'no' : 'yes'; }}
		onFocusOut=${e => { if (e.relatedTarget) table.current.dataset.focused = 'no'; }}>
		<thead><tr>${columns.map(c => html`<th key=${c.id} class=${`c-${c.id} ${c.kind ?? ''}`} scope="col"
			aria-sort=${order?.by === c.id ? (order.down ? 'descending' : 'ascending') : null}>
			${c.sort ? html`<button class="sort" onClick=${() => onOrder({ by: c.id, down: order.by === c.id && !order.down })}>${c.words}</button>` :
				c.words}</th>`)}</tr></thead>
		<tbody>${spacer(from)}${items.slice(from, to).map((item, i) => row(item, from + i))}${spacer(items.length - to)}
			${items.length === 0 && html`<tr class="nothing"><td colspan=${columns.length}>${empty}</td></tr>`}</tbody>
	</table>`;
}
