// size_input.js: a size as a number and its unit. The value is bytes; NaN while the text is no number.
import { html, useState } from './lib.js';

const UNITS = { MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4 };

export function split(bytes, least = 'MiB') {
	const units = Object.keys(UNITS).slice(Object.keys(UNITS).indexOf(least)).reverse();
	const unit = units.find(u => bytes && bytes % UNITS[u] === 0) ?? least;
	return { number: bytes ? String(bytes / UNITS[unit]) : '', unit };
}

// Takes the id and aria attributes of its Field.
export function SizeInput({ value, onChange, least = 'MiB', name, placeholder, disabled, ...rest }) {
	const [{ number, unit }, set] = useState(split(value, least));
	const change = (n, u) => {
		set({ number: n, unit: u });
		onChange(n.trim() === '' ? 0 : Math.round(Number(n) * UNITS[u]));
	};
	return html`<span class="size"><input ...${rest} name=${name} inputmode="decimal" pattern="[0-9]*[.]?[0-9]+" title="A number" value=${number} placeholder=${placeholder}
		disabled=${disabled} onInput=${e => change(e.target.value, unit)} />
		<select aria-label="Unit" disabled=${disabled} value=${unit} onChange=${e => change(number, e.target.value)}>
			${Object.keys(UNITS).map(u => html`<option key=${u} value=${u}>${u}</option>`)}</select></span>`;
}
