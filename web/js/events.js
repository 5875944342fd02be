// events.js: the host's events in every tab, over one stream per browser. Browsers open six connections to a host, and
// a stream takes one for good: so the tab that holds a lock reads it and tells the others by a BroadcastChannel.
import { signal } from './lib.js';
import { readStream } from './sse.js';

const NAME = 'croft-events';
const PAUSES_MS = [500, 1000, 2000, 5000, 10_000];

// connecting, live, or broken (then it is tried again)
export const connection = signal('connecting');

// @on: { event(e), fresh() (read everything: the stream is open now and starts here), loggedOut() }. -> stop()
export function followEvents(on) {
	const stop = new AbortController();
	const channel = new BroadcastChannel(NAME);
	let leads = false, lastId = '', wasFresh = false;

	const fresh = () => {
		wasFresh = true;
		on.fresh();
	};
	const hear = message => {
		if (message.state) {
			connection.value = message.state;
			if (message.state === 'live' && !wasFresh)
				fresh();
		} else if (message.event) {
			lastId = message.event.seq ?? lastId;	// what passes has no number
			on.event(message.event);
		} else if (message.fresh) {
			fresh();
		} else if (message.loggedOut) {
			on.loggedOut();
		}
	};
	const tell = message => {
		channel.postMessage(message);
		hear(message);
	};
	const onEvent = e => {
		if (e.name === 'reset') {
			lastId = e.id;
			tell({ fresh: true });
			return;
		}
		tell({ event: JSON.parse(e.data) });
	};
	channel.onmessage = ({ data }) => {
		if (data.hello && leads)
			channel.postMessage({ state: connection.value });
		else if (!data.hello)
			hear(data);
	};

	const lead = async () => {
		leads = true;
		for (let failures = 0; !stop.signal.aborted; failures++) {
			const resumed = Boolean(lastId);
			try {
				await readStream('/api/v1/events', lastId, {
					signal: stop.signal, onEvent,
					onOpen: () => {
						failures = 0;
						if (!resumed)
							tell({ fresh: true });
						tell({ state: 'live' });
					},
				});
			} catch (problem) {
				if (stop.signal.aborted)
					return;
				if (problem.status === 401) {
					tell({ loggedOut: true });
					return;
				}
			}
			if (stop.signal.aborted)
				return;
			tell({ state: 'broken' });
			await new Promise(done => setTimeout(done, PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)]));
		}
	};

	connection.value = 'connecting';
	channel.postMessage({ hello: true });
	if (navigator.locks)
		navigator.locks.request(NAME, { signal: stop.signal }, lead).catch(() => {});
	else
		lead();
	return () => {
		stop.abort();
		channel.close();
	};
}
