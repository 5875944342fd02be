// serial_view.js: the serial console's document in its frame. It has a policy of its own, since xterm.js makes styles.
import { html, useEffect, useRef } from './lib.js';
import { Icon } from './icons.js';

export const serialUrl = vm => `/serial.html#${encodeURIComponent(vm.id)}`;

export function SerialView({ vm }) {
	const frame = useRef();
	useEffect(() => {
		frame.current.focus();
	}, []);
	return html`<div class="console">
		<div class="console-tools"><span class="quiet wide">What the guest says is kept, also while nobody watches.</span><span class="fill"></span>
			<a class="button" href=${serialUrl(vm)} target="_blank" rel="noopener"><${Icon} name="external" />Own tab</a></div>
		<iframe ref=${frame} title=${`Serial console of ${vm.name}`} src=${serialUrl(vm)} allow="clipboard-read; clipboard-write"></iframe>
	</div>`;
}
