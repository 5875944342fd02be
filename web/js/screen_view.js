// screen_view.js: a VM's screen, keyboard and pointer, by noVNC; and the small picture of it on the summary.
import { html, useEffect, useRef, useState } from './lib.js';
import { Icon } from './icons.js';
import { post, segment } from './api.js';
import { ProblemNote } from './form.js';
import { link } from './router.js';
import { hasScreen } from './state.js';

const AGAIN_MS = 2000;

// A socket that is open. One that is no longer wanted is closed only then: browsers complain of one closed before.
function opened(url) {
	return new Promise((resolve, reject) => {
		const socket = new WebSocket(new URL(url, location.href.replace(/^http/, 'ws')));
		socket.onopen = () => resolve(socket);
		socket.onclose = ({ reason }) => reject(new Error(reason || 'The screen could not be opened.'));
	});
}

// Joins @vm's screen to @target while @on. -> { rfb, state: connecting, open, closed, problem }
function useScreen(vm, target, { on, viewOnly }) {
	const [shown, setShown] = useState({ state: 'connecting' });
	const [tries, setTries] = useState(0);
	useEffect(() => {
		if (!on)
			return;
		let rfb = null, over = false, timer = 0;
		const again = () => {
			timer = setTimeout(() => setTries(n => n + 1), AGAIN_MS);
		};
		const begin = async () => {
			setShown({ state: 'connecting' });
			const [{ default: RFB }, ticket] = await Promise.all([
				import('../vendor/@novnc/novnc/core/rfb.js'), post(`/vms/${segment(vm.id)}/console`, { kind: 'screen' })]);
			if (over)
				return;
			const socket = await opened(ticket.url);
			if (over) {
				socket.close();
				return;
			}
			rfb = new RFB(target.current, socket, { shared: true });
			rfb.viewOnly = viewOnly;
			rfb.scaleViewport = true;
			rfb.background = 'transparent';
			rfb.focusOnClick = !viewOnly;
			rfb.addEventListener('connect', () => {
				setShown({ state: 'open', rfb });
				if (!viewOnly)
					rfb.focus();
			});
			rfb.addEventListener('disconnect', () => {
				rfb = null;
				if (over)
					return;
				setShown({ state: 'closed' });
				again();
			});
		};
		begin().catch(problem => {
			if (over)
				return;
			setShown({ state: 'problem', problem });
			if (![401, 403, 404].includes(problem.status))
				again();
		});
		return () => {
			over = true;
			clearTimeout(timer);
			rfb?.disconnect();
		};
	}, [vm.id, on, viewOnly, tries]);
	return shown;
}

function Waiting({ vm, shown, on }) {
	if (!on)
		return html`<p class="console-note">${vm.status.state === 'off' ? 'The VM is off. Its screen appears here when it is powered on.' :
			'The screen appears when the VM runs.'}</p>`;
	if (shown.state === 'problem')
		return html`<div class="console-note"><${ProblemNote} problem=${shown.problem} /></div>`;
	return shown.state !== 'open' && html`<p class="console-note" role="status">${shown.state === 'closed' ? 'The screen was closed. It is being opened again.' :
		'Opening the screen.'}</p>`;
}

export function ScreenView({ vm }) {
	const target = useRef(), box = useRef();
	const [fits, setFits] = useState(true);
	const on = hasScreen(vm);
	const shown = useScreen(vm, target, { on, viewOnly: false });
	const rfb = shown.rfb;

	useEffect(() => {
		if (rfb) {
			rfb.scaleViewport = fits;
			rfb.clipViewport = !fits;
			rfb.dragViewport = false;
		}
	}, [rfb, fits]);
	return html`<div class="console" ref=${box}>
		<div class="console-tools">
			<button disabled=${!rfb} onClick=${() => {
				rfb.sendCtrlAltDel();
				rfb.focus();
			}}><${Icon} name="keyboard" />Ctrl-Alt-Del</button>
			<div class="segments" role="group" aria-label="Size">
				<button aria-pressed=${fits} onClick=${() => setFits(true)}>Fit</button>
				<button aria-pressed=${!fits} onClick=${() => setFits(false)}>1:1</button></div>
			<span class="fill"></span>
			<button onClick=${() => document.fullscreenElement ? document.exitFullscreen() : box.current.requestFullscreen()}>
				<${Icon} name="expand" />Full screen</button>
		</div>
		<div class="screen" data-state=${on ? shown.state : 'off'} data-fits=${fits}><div class="rfb" ref=${target}></div>
			<${Waiting} vm=${vm} shown=${shown} on=${on} /></div>
	</div>`;
}

export function ScreenThumb({ vm }) {
	const target = useRef();
	const shown = useScreen(vm, target, { on: true, viewOnly: true });
	return html`<a class="thumb sheet" href=${link('vms', vm.name, 'screen')} aria-label=${`Screen of ${vm.name}`} data-state=${shown.state}>
		<div class="rfb" ref=${target} inert></div>
		<span class="thumb-words"><${Icon} name="screen" />Open the screen</span></a>`;
}
