// serial.js: the document serial.html: a terminal on a VM's serial line. The VM's id stands behind the #.
import { FitAddon } from '../vendor/@xterm/addon-fit/lib/addon-fit.mjs';
import { Terminal } from '../vendor/@xterm/xterm/lib/xterm.mjs';
import { get, post, segment } from './api.js';

const PAUSES_MS = [500, 1000, 2000, 5000, 10_000];
const id = decodeURIComponent(location.hash.slice(1));
const note = document.getElementById('note');
const terminal = new Terminal({
	cursorBlink: true, fontSize: 14, lineHeight: 1.15, scrollback: 10_000,
	fontFamily: 'ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", Menlo, Consolas, monospace',
	theme: { background: '#14191b', foreground: '#d7dedb', cursor: '#8fd0a5', selectionBackground: '#3c5a63' },
});
const fit = new FitAddon();
let socket = null, failures = 0;

terminal.loadAddon(fit);
terminal.open(document.getElementById('terminal'));
fit.fit();
new ResizeObserver(() => fit.fit()).observe(document.getElementById('terminal'));
terminal.onData(text => send(new TextEncoder().encode(text)));
terminal.onBinary(text => send(Uint8Array.from(text, c => c.charCodeAt(0))));
addEventListener('focus', () => terminal.focus());
terminal.focus();

function send(data) {
	if (socket?.readyState === WebSocket.OPEN)
		socket.send(data);
}

function tell(text) {
	note.textContent = text;
	note.hidden = !text;
}

function again() {
	setTimeout(connect, PAUSES_MS[Math.min(failures++, PAUSES_MS.length - 1)]);
}

// The line's history comes with each connection, so the terminal begins afresh.
async function connect() {
	let ticket;
	try {
		ticket = await post(`/vms/${segment(id)}/console`, { kind: 'serial' });
	} catch (problem) {
		tell([problem.message, problem.hint].filter(Boolean).join(' '));
		if (![401, 403, 404].includes(problem.status))
			again();
		return;
	}
	socket = new WebSocket(new URL(ticket.url, location.href.replace(/^http/, 'ws')));
	socket.binaryType = 'arraybuffer';
	socket.onopen = () => {
		failures = 0;
		terminal.reset();
		tell('');
		document.body.dataset.state = 'open';
	};
	socket.onmessage = ({ data }) => terminal.write(typeof data === 'string' ? data : new Uint8Array(data));
	socket.onclose = ({ reason }) => {
		document.body.dataset.state = 'closed';
		tell(reason || 'The line was closed. It is being opened again.');
		again();
	};
}

async function name() {
	const vm = await get(`/vms/${segment(id)}`);
	document.title = `${vm.name} – serial console – Croft`;
}

connect();
name().catch(() => { /* connect tells it */ });
