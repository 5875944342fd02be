// sse.js: one stream of server-sent events, read by fetch, since EventSource tells neither a status nor a problem.
import { Problem, problemOf } from './api.js';

const SILENCE_MS = 60_000;		// the host sends a comment at least every 15 s

// Calls @onOpen once, @onEvent({ id, name, data }) for each. Returns when the stream ends, throws what went wrong.
export async function readStream(url, lastId, { signal, onOpen, onEvent }) {
	const quiet = new AbortController();
	let timer;
	const heard = () => {
		clearTimeout(timer);
		timer = setTimeout(() => quiet.abort(), SILENCE_MS);
	};
	const stop = () => quiet.abort();
	signal.addEventListener('abort', stop);
	heard();
	try {
		const headers = { Accept: 'text/event-stream', ...(lastId ? { 'Last-Event-ID': lastId } : {}) };
		const response = await fetch(url, { headers, signal: quiet.signal, cache: 'no-store', credentials: 'same-origin' });
		if (!response.ok)
			throw await problemOf(response);
		heard();
		onOpen();
		const parse = parser(onEvent);
		const decoder = new TextDecoder();
		const reader = response.body.getReader();
		for (let piece; !(piece = await reader.read()).done; heard())
			parse(decoder.decode(piece.value, { stream: true }));
	} catch (error) {
		if (error instanceof Problem)
			throw error;
		throw new Problem({ title: 'No connection', detail: 'The stream of events broke.' }, 0);
	} finally {
		clearTimeout(timer);
		signal.removeEventListener('abort', stop);
	}
}

// Fields of an event up to its empty line, as the HTML standard has it.
export function parser(onEvent) {
	let rest = '', event = { id: '', name: 'message', data: [] };
	const line = text => {
		if (!text) {
			if (event.data.length)
				onEvent({ id: event.id, name: event.name, data: event.data.join('\n') });
			event = { id: '', name: 'message', data: [] };
			return;
		}
		const colon = text.indexOf(':');
		const field = colon < 0 ? text : text.slice(0, colon);
		const value = colon < 0 ? '' : text.slice(colon + (text[colon + 1] === ' ' ? 2 : 1));
		if (field === 'data')
			event.data.push(value);
		else if (field === 'event')
			event.name = value;
		else if (field === 'id')
			event.id = value;
	};
	return text => {
		const lines = (rest + text).split(/\r\n|\n/);
		rest = lines.pop();
		lines.forEach(line);
	};
}
