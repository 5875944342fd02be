// forward_rows.js: the ports of the host that lead to one NIC.
import { html } from './lib.js';
import { Icon } from './icons.js';

const fresh = { protocol: 'tcp', host_address: '127.0.0.1', host_port: '', guest_port: 22 };

export function ForwardRows({ nic, rows, problem, onChange }) {
	const set = (i, change) => onChange(rows.map((row, k) => k === i ? { ...row, ...change } : row));
	const base = `/config/nics/${nic}`;
	const wrong = problem?.at?.(base);
	const port = (i, name, label) => html`<input type="number" min="1" max="65535" required aria-label=${label} name=${`${name}-${i}`}
		aria-invalid=${problem?.at?.(`${base}/forwards/${i}/${name}`) ? 'true' : null} value=${rows[i][name]}
		onInput=${e => set(i, { [name]: e.target.value === '' ? '' : Number(e.target.value) })} />`;
	return html`<div class="forwards" role="group" aria-label=${`Forwarded ports of ${nic}`}>
		${rows.map((row, i) => html`<div class="forward" key=${i}>
			<select aria-label="Protocol" value=${row.protocol} onChange=${e => set(i, { protocol: e.target.value })}>
				<option value="tcp">tcp</option><option value="udp">udp</option></select>
			<select aria-label="Host address" value=${row.host_address} onChange=${e => set(i, { host_address: e.target.value })}>
				${[...new Set(['127.0.0.1', '0.0.0.0', row.host_address])].map(a => html`<option key=${a} value=${a}>
					${{ '127.0.0.1': 'this host only', '0.0.0.0': 'all addresses' }[a] ?? a}</option>`)}</select>
			${port(i, 'host_port', 'Host port')}<span class="quiet">to port</span>${port(i, 'guest_port', 'Guest port')}
			<button type="button" class="plain icon-only" aria-label="Remove this forward" title="Remove this forward" onClick=${() => onChange(rows.filter((_, k) => k !== i))}>
				<${Icon} name="trash" /></button></div>`)}
		${wrong && html`<p class="wrong">${wrong.detail}${problem.hint && html`<br />${problem.hint}`}</p>`}
		<button type="button" onClick=${() => onChange([...rows, fresh])}><${Icon} name="plus" />Forward a port</button>
	</div>`;
}
