// facts.js: names and values, one below the other. A row: [name, value, small print]; false rows are left out.
import { html } from './lib.js';

export const Facts = ({ rows }) => html`<dl class="facts">${rows.filter(Boolean).map(([name, value, more]) => html`<div key=${name}>
	<dt>${name}</dt><dd>${value}${more && html`<small>${more}</small>`}</dd></div>`)}</dl>`;

// How much of it is used. @full is no worry: CPUs are shared.
export function Bar({ used, total, label, full = 'bad' }) {
	const part = total > 0 ? Math.min(1, used / total) : 0;
	return html`<div class="meter" role="meter" aria-label=${label} aria-valuemin="0" aria-valuemax="100" aria-valuenow=${Math.round(part * 100)}
		data-tone=${full === 'fine' || part <= 0.85 ? 'fine' : part > 0.95 ? full : 'held'}><span style=${{ width: `${part * 100}%` }}></span></div>`;
}
