// format.js: numbers and times as people read them.
import { html, signal, useEffect } from './lib.js';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

export function bytes(n) {
	if (!Number.isFinite(n))
		return '';
	let i = 0;
	for (; n >= 1024 && i < UNITS.length - 1; i++)
		n /= 1024;
	return `${n >= 100 || Number.isInteger(n) ? Math.round(n) : n.toFixed(1)} ${UNITS[i]}`;
}

// "2 GiB", "512M", "1.5g" -> bytes, or NaN. A bare number has the unit @bare.
export function parseBytes(text, bare = 'MiB') {
	const m = /^\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)i?b?\s*$/i.exec(text);
	if (!m)
		return NaN;
	const i = m[2] ? 'KMGTP'.indexOf(m[2].toUpperCase()) + 1 : UNITS.indexOf(bare);
	return Math.round(Number(m[1]) * 1024 ** i);
}

export const count = (n, one, many = one + 's') => `${n.toLocaleString('en')} ${n === 1 ? one : many}`;

// ---- times: one clock for all of them, that ticks only while one is on the page

const now = signal(Date.now());
let watched = 0, ticking = 0;

function useClock() {
	useEffect(() => {
		now.value = Date.now();
		if (++watched === 1)
			ticking = setInterval(() => {
				now.value = Date.now();
			}, 5000);
		return () => --watched || clearInterval(ticking);
	}, []);
	return now.value;
}

export function span(ms) {
	const s = Math.max(0, Math.round(ms / 1000));
	if (s < 60)
		return `${s} s`;
	if (s < 3600)
		return `${Math.floor(s / 60)} min`;
	if (s < 86_400)
		return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
	return `${Math.floor(s / 86_400)} d ${Math.floor(s % 86_400 / 3600)} h`;
}

function ago(ms) {
	if (ms < 10_000)
		return 'just now';
	if (ms < 60_000)
		return `${Math.floor(ms / 10_000) * 10} s ago`;
	if (ms < 3_600_000)
		return `${Math.floor(ms / 60_000)} min ago`;
	if (ms < 86_400_000)
		return `${Math.floor(ms / 3_600_000)} h ago`;
	return `${Math.floor(ms / 86_400_000)} d ago`;
}

const exact = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });

export function Ago({ time }) {
	const clock = useClock();
	return time ? html`<time datetime=${time} title=${exact.format(new Date(time))}>${ago(clock - Date.parse(time))}</time>` : null;
}

export function For({ since }) {
	const clock = useClock();
	return since ? html`<time datetime=${since} title=${'since ' + exact.format(new Date(since))}>${span(clock - Date.parse(since))}</time>` :
		null;
}
