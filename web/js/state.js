// state.js: a VM's state as it is shown, and what can be asked of it in which state (the host's own table decides).
import { html } from './lib.js';

export const states = {
	off: { words: 'Powered off', icon: 'stop', tone: 'off' },
	suspended: { words: 'Suspended', icon: 'pause', tone: 'off' },
	starting: { words: 'Starting', icon: 'play', tone: 'moving' },
	attaching: { words: 'Reconnecting', icon: 'play', tone: 'moving' },
	running: { words: 'Running', icon: 'play', tone: 'on' },
	paused: { words: 'Paused', icon: 'pause', tone: 'held' },
	stopping: { words: 'Shutting down', icon: 'stop', tone: 'moving' },
	suspending: { words: 'Suspending', icon: 'pause', tone: 'moving' },
	degraded: { words: 'Not answering', icon: 'alert', tone: 'bad' },
	lost: { words: 'Lost', icon: 'alert', tone: 'bad' },
	ending: { words: 'Powering off', icon: 'stop', tone: 'moving' },
	invalid: { words: 'Unreadable', icon: 'alert', tone: 'bad' },
};
const unknown = { words: 'Unknown', icon: 'info', tone: 'off' };

export const stateOf = vm => vm.status.problem ? 'invalid' : vm.status.state;
export const isAlive = vm => !vm.status.problem && !['off', 'suspended'].includes(vm.status.state);
// A simulated VM has none.
export const canHaveScreen = vm => vm.config.display !== 'none' && vm.config.engine !== 'sim';
export const hasScreen = vm => canHaveScreen(vm) && ['running', 'paused', 'stopping'].includes(vm.status.state);

const shapes = {
	play: 'M2.5 1.5v7l6-3.5z', stop: 'M2 2h6v6H2z', pause: 'M2 1.5h2v7H2zM6 1.5h2v7H6z',
	alert: 'M5 .8l4.6 8H.4z', info: 'M5 1a4 4 0 1 0 0 8 4 4 0 0 0 0-8z',
};

export function StateMark({ vm, words = true }) {
	const s = states[stateOf(vm)] ?? unknown;
	return html`<span class="state" data-tone=${s.tone}>
		<svg viewBox="0 0 10 10" role=${words ? null : 'img'} aria-label=${words ? null : s.words} aria-hidden=${words ? 'true' : null}>
			<path d=${shapes[s.icon]} /></svg>${words && s.words}</span>`;
}

const up = ['running', 'paused', 'stopping'];
export const asks = {
	start: { words: 'Power on', icon: 'play', states: ['off', 'suspended'] },
	shutdown: { words: 'Shut down', icon: 'power', states: ['running', 'stopping'], help: 'asks the guest to shut down' },
	reboot: { words: 'Restart', icon: 'restart', states: ['running', 'stopping'], help: 'shuts the guest down and starts it again' },
	pause: { words: 'Pause', icon: 'pause', states: ['running', 'stopping'] },
	resume: { words: 'Resume', icon: 'play', states: ['paused', 'suspending'] },
	suspend: { words: 'Suspend', icon: 'pause', states: ['running', 'paused'],
		   help: 'saves the guest’s memory to disk; power on goes on from there' },
	discard: { words: 'Discard memory', icon: 'trash', states: ['suspended'], help: 'the VM is off then',
		   sure: 'The saved memory is thrown away, as by a power cut. What the guest had not written to its disks is lost.' },
	reset: { words: 'Reset', icon: 'reset', states: up, help: 'like the reset button: the guest is not asked',
		 sure: 'The guest is not asked. What it has not written to its disks is lost.' },
	poweroff: { words: 'Power off', icon: 'stop', states: [...up, 'starting', 'attaching', 'suspending', 'degraded', 'ending'],
		    help: 'like pulling the plug: the guest is not asked',
		    sure: 'This is like pulling the plug. What the guest has not written to its disks is lost.' },
};

// Why the ask can't be had now, or '' when it can. @task holds the VM; a power-off cuts short a start or the waiting for
// a shutdown.
export function whyNot(vm, ask, task) {
	if (vm.status.problem)
		return vm.status.problem;
	if (ask === 'poweroff' && vm.status.state === 'off' && vm.status.note && !task)
		return '';		// it has crashed, and would be started again
	if (!asks[ask].states.includes(vm.status.state))
		return `not while the VM is ${vm.status.state}`;
	if (task && !(ask === 'poweroff' && task.cancellable))
		return 'another task holds the VM';
	return '';
}
