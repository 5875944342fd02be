// icons.js: the client's own icons, drawn on a grid of 16 with strokes of 1.5.
import { html } from './lib.js';

const paths = {
	host: 'M2.5 3.5h11v4h-11zM2.5 8.5h11v4h-11zM5 5.5h.01M5 10.5h.01M8 5.5h3M8 10.5h3',
	vm: 'M2.5 3h11v8h-11zM5.5 13.5h5M8 11v2.5',
	datastore: 'M2.5 4.2c0-1 2.5-1.7 5.5-1.7s5.5.7 5.5 1.7S11 5.9 8 5.9 2.5 5.2 2.5 4.2zM2.5 4.2v7.6c0 1 2.5 1.7 5.5 1.7s5.5-.7 5.5-1.7V4.2M2.5 8c0 1 2.5 1.7 5.5 1.7s5.5-.7 5.5-1.7',
	tasks: 'M2.5 4l1 1 2-2M2.5 8.5l1 1 2-2M2.5 13l1 1 2-2M8 4h5.5M8 8.5h5.5M8 13h5.5',
	network: 'M6 2.5h4v3.5H6zM2 10h4v3.5H2zM10 10h4v3.5h-4zM8 6v2M4 10V8h8v2',
	play: 'M5 3l7.5 5L5 13z',
	stop: 'M4 4h8v8H4z',
	pause: 'M5.5 3.5v9M10.5 3.5v9',
	power: 'M8 2v5.5M4.7 4.3a5 5 0 1 0 6.6 0',
	shutdown: 'M8 1.8v6M4.7 4.3a5 5 0 1 0 6.6 0',
	reset: 'M12.8 6.5A5 5 0 1 0 13 9M13 3v3.5H9.5',
	restart: 'M3.2 6.5A5 5 0 0 1 12.8 6.5M13 3v3.5H9.5M12.8 9.5A5 5 0 0 1 3.2 9.5M3 13V9.5h3.5',
	serial: 'M2 3h12v10H2zM4.5 6l2 2-2 2M8.5 10h3',
	screen: 'M2 3h12v8H2zM6 13.5h4',
	plus: 'M8 3v10M3 8h10',
	close: 'M4 4l8 8M12 4l-8 8',
	check: 'M3 8.5l3.5 3.5L13 4.5',
	alert: 'M8 2.5l6 10.5H2zM8 6.5v3M8 11.3h.01',
	info: 'M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 7.5V11M8 5h.01',
	search: 'M7 11.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9zM10.3 10.3L14 14',
	down: 'M4 6l4 4 4-4',
	up: 'M4 10l4-4 4 4',
	right: 'M6 4l4 4-4 4',
	trash: 'M3 4.5h10M6.5 4.5v-2h3v2M4.5 4.5l.5 9h6l.5-9M6.8 7v4M9.2 7v4',
	edit: 'M3 13l.5-2.5 7-7 2 2-7 7zM9.5 4.5l2 2',
	user: 'M8 8a2.7 2.7 0 1 0 0-5.4A2.7 2.7 0 0 0 8 8zM2.8 13.5c.6-2.5 2.6-3.7 5.2-3.7s4.6 1.2 5.2 3.7',
	logout: 'M6.5 2.5h-4v11h4M10 5l3 3-3 3M13 8H6',
	upload: 'M8 11V3M4.5 6L8 2.5 11.5 6M2.5 11v2.5h11V11',
	download: 'M8 2.5v8M4.5 7.5L8 11l3.5-3.5M2.5 11v2.5h11V11',
	folder: 'M2 4h4l1.5 1.5H14V13H2z',
	file: 'M4 2h5l3 3v9H4zM9 2v3h3',
	disc: 'M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 9.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3z',
	usb: 'M8 13.5V3.5M6.2 5.2L8 2.8l1.8 2.4M8 11L4.5 8.8V7M8 9.5l3.5-2V5.5',
	gauge: 'M3.2 12.5a6 6 0 1 1 9.6 0M8 9.5l2.8-3.6',
	disk: 'M2.5 3h11v10h-11zM5 10.5h.01M7.5 10.5h3.5',
	expand: 'M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10',
	clock: 'M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 4.5V8l2.5 1.5',
	refresh: 'M13 6.5A5.2 5.2 0 1 0 13.2 9M13.2 2.8v3.7H9.5',
	keyboard: 'M1.5 4h13v8h-13zM4 6.5h.01M6.7 6.5h.01M9.3 6.5h.01M12 6.5h.01M4.5 9.5h7',
	copy: 'M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3',
	external: 'M9 2.5h4.5V7M13.5 2.5L8 8M11 9.5v4H2.5V5h4',
};

export function Icon({ name, label }) {
	return html`<svg class="icon" viewBox="0 0 16 16" role=${label ? 'img' : null} aria-label=${label} aria-hidden=${label ? null : 'true'}>
		<path d=${paths[name]} /></svg>`;
}

export const Mark = () => html`<svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
	<path class="roof" d="M5 15.5 16 6l11 9.5" /><path d="M9 20h14M9 25.5h14" /></svg>`;
