// router.js: the page that is shown, as it stands in the address behind the #: #/vms/demo/serial?filter=web
import { signal } from './lib.js';

function parse() {
	const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
	let parts = [];
	try {
		parts = path.split('/').filter(Boolean).map(decodeURIComponent);
	} catch { /* a broken % leads home */ }
	return { parts, query: new URLSearchParams(query) };
}

export const route = signal(parse());
addEventListener('hashchange', () => {
	route.value = parse();
});

export const link = (...parts) => '#/' + parts.map(encodeURIComponent).join('/');
export function go(href, { replace = false } = {}) {
	if (replace)
		history.replaceState(null, '', href);
	else
		history.pushState(null, '', href);
	route.value = parse();
}
