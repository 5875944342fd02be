// api.js: requests to the host's public API. What fails is a Problem, with the texts of its problem document.

const BASE = '/api/v1';

export class Problem extends Error {
	constructor(doc, status) {
		super(doc.detail || doc.title || `The host answered with ${status}`);
		this.status = status;
		this.type = doc.type || '';
		this.title = doc.title || '';
		this.hint = doc.hint || '';
		this.errors = doc.errors || [];
		this.permission = doc.permission || '';
		this.task = doc.task || 0;
		this.requestId = doc.request_id || '';
	}

	// What stands at a field: the sentence for its JSON pointer, or for anything below it.
	at(pointer) {
		return this.errors.find(e => e.pointer === pointer || e.pointer?.startsWith(pointer + '/'));
	}
}

const listeners = { loggedOut: () => {} };
export function onLoggedOut(fn) {
	listeners.loggedOut = fn;
}

export async function problemOf(response) {
	let doc = {};
	if (/json/.test(response.headers.get('Content-Type') || ''))
		doc = await response.json().catch(() => ({}));
	return new Problem(doc, response.status);
}

const unreachable = () => new Problem({
	type: 'unreachable', title: 'No connection',
	detail: 'The host cannot be reached.', hint: 'Check the network, and that croftd runs.',
}, 0);

// -> { status, body, etag }. @how: headers, ifMatch (a revision), wait (seconds), quiet (401 is no news), signal.
export async function request(method, path, body, how = {}) {
	const headers = { Accept: 'application/json', ...how.headers };
	if (body !== undefined)
		headers['Content-Type'] = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
	if (how.ifMatch !== undefined)
		headers['If-Match'] = `"${how.ifMatch}"`;
	if (how.wait)
		headers.Prefer = `wait=${how.wait}`;
	let response;
	try {
		response = await fetch(BASE + path, { method, headers, signal: how.signal, credentials: 'same-origin', cache: 'no-store',
			body: body === undefined ? undefined : JSON.stringify(body) });
	} catch (error) {
		throw error.name === 'AbortError' ? error : unreachable();
	}
	if (!response.ok) {
		const problem = await problemOf(response);
		if (response.status === 401 && !how.quiet)
			listeners.loggedOut(problem);
		throw problem;
	}
	const text = response.status === 204 ? '' : await response.text();
	return { status: response.status, body: text ? JSON.parse(text) : null, etag: response.headers.get('ETag') };
}

export const get = async (path, how) => (await request('GET', path, undefined, how)).body;
export const post = async (path, body, how) => (await request('POST', path, body, how)).body;
export const patch = async (path, body, how) => (await request('PATCH', path, body, how)).body;
export const del = async (path, how) => (await request('DELETE', path, undefined, how)).body;

// All pages of a list.
export async function getAll(path) {
	const items = [];
	const join = path.includes('?') ? '&' : '?';
	for (let after = null; ;) {
		const page = await get(after ? `${path}${join}after=${encodeURIComponent(after)}` : path);
		items.push(...page.items);
		if (!page.next || !page.items.length)
			return items;
		after = page.next;
	}
}

export const segment = encodeURIComponent;
// A path on a datastore keeps its slashes.
export const segments = path => path.split('/').map(encodeURIComponent).join('/');

// A body straight from a file, with progress: fetch has none for uploads.
export function upload(path, file, { progress, headers = {}, signal } = {}) {
	return new Promise((resolve, reject) => {
		const xhr = new XMLHttpRequest();
		xhr.open('PUT', BASE + path);
		for (const [name, value] of Object.entries(headers))
			xhr.setRequestHeader(name, value);
		xhr.setRequestHeader('Content-Type', 'application/octet-stream');
		xhr.upload.onprogress = e => e.lengthComputable && progress?.(e.loaded, e.total);
		xhr.onload = () => {
			let doc = {};
			try {
				doc = xhr.responseText ? JSON.parse(xhr.responseText) : {};
			} catch { /* told by its status */ }
			if (xhr.status >= 200 && xhr.status < 300)
				resolve(doc);
			else
				reject(new Problem(doc, xhr.status));
		};
		xhr.onerror = () => reject(unreachable());
		xhr.onabort = () => reject(new DOMException('cancelled', 'AbortError'));
		signal?.addEventListener('abort', () => xhr.abort());
		xhr.send(file);
	});
}
export const downloadUrl = path => BASE + path;
