// usb_rows.js: the host's USB devices that a VM gets: which it has, and what else is plugged into the host.
import { html, useEffect, useState } from './lib.js';
import { getAll } from './api.js';
import { Icon } from './icons.js';
import { Menu } from './menu.js';
import { can } from './store.js';

export const usbIds = d => `${d.vendor}:${d.product}`;
export const usbName = d => d.model || d.manufacturer || d.kind || 'USB device';

// How a device of a VM is right now.
export function usbWords(u) {
	const port = html`<span class="mono quiet">${u.port}</span>`;
	const words = { plugged: html`plugged in, from the host’s port ${port}`, ready: html`at the host’s port ${port}, free`,
		taken: html`${u.vm} has it`, absent: html`<span class="quiet">not plugged into the host</span>` };
	return html`${words[u.state]}${u.problem && html`: ${u.problem}`}`;
}

const means = (u, d) => usbIds(u) === usbIds(d) && (!u.serial || u.serial === d.serial) && (!u.port || u.port === d.port);

// The entry of config.usb that means @d and nothing else that is plugged in: by its serial number, else, for twins, by its port.
export function entryOf(d, all) {
	const entry = { vendor: d.vendor, product: d.product };
	if (d.serial)
		entry.serial = d.serial;
	if (all.filter(other => means(entry, other)).length > 1)
		entry.port = d.port;
	return entry;
}

function freeName(usb) {
	for (let i = 0; ; i++)
		if (!usb[`usb${i}`])
			return `usb${i}`;
}

function Row({ name, u, status, device, mark, remove }) {
	const from = [u.serial && `serial number ${u.serial}`, u.port && `port ${u.port}`].filter(Boolean).join(', ');
	return html`<tr><th scope="row"><${Icon} name="usb" />${name} ${mark}</th><td class="quiet mono">${usbIds(u)}</td>
		<td class="rest">${device && `${usbName(device)}, `}${status ? usbWords(status) : html`<span class="quiet">is attached when this is saved</span>`}
			${from && html` <small>${from}</small>`}</td>
		<td class="act"><button type="button" class="plain icon-only" aria-label=${`Detach ${name}`} title=${`Detach ${name}`}
			onClick=${remove}><${Icon} name="trash" /></button></td></tr>`;
}

// @form: as Setting has it. What is attached or detached here is saved with the rest.
export function UsbRows({ form, mark }) {
	const [devices, setDevices] = useState([]);
	const { usb } = form.config;
	const look = () => can('host.view') && getAll('/host/usb').then(setDevices, () => { /* then none is offered */ });
	useEffect(() => {
		look();
	}, []);
	const wrong = form.problem?.at?.('/config/usb');
	const rest = devices.filter(d => !Object.values(usb).some(u => means(u, d)));
	const attach = d => form.put(['usb', freeName(usb)], entryOf(d, devices));
	const detach = name => form.put(['usb', name], undefined);
	return html`${Object.keys(usb).length > 0 && html`<table class="plain-table" aria-label="USB devices"><tbody>${Object.entries(usb).map(([name, u]) =>
			html`<${Row} key=${name} name=${name} u=${u} mark=${mark(`/config/usb/${name}`)} device=${devices.find(d => means(u, d))}
				status=${form.vm.status.usb.find(s => s.name === name)} remove=${() => detach(name)} />`)}</tbody></table>`}
		${wrong && html`<p class="wrong">${wrong.detail}${form.problem.hint && html`<br />${form.problem.hint}`}</p>`}
		${can('vm.configure') && html`<div class="row" onFocusIn=${look}><${Menu} kind="left" title="What is plugged into the host"
			label=${html`<${Icon} name="plus" />Attach a USB device`} items=${rest.length ? rest.map(d => ({ icon: 'usb',
				words: html`${usbName(d)} <span class="quiet mono">${usbIds(d)}</span>`, why: d.vm ? `${d.vm} has it` : '', act: () => attach(d) })) :
			[{ note: Object.keys(usb).length ? 'Nothing else is plugged into the host.' : 'Nothing is plugged into the host.' }]} /></div>`}`;
}
