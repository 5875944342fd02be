// task_words.js: kinds of tasks as people say them.
const words = {
	'vm.create': 'Create VM', 'vm.delete': 'Delete VM', 'vm.start': 'Power on', 'vm.shutdown': 'Shut down', 'vm.reboot': 'Restart',
	'vm.poweroff': 'Power off', 'vm.reset': 'Reset', 'vm.pause': 'Pause', 'vm.resume': 'Resume',
	'vm.freeze': 'Freeze file systems', 'vm.thaw': 'Thaw file systems', 'vm.set-time': 'Set the clock',
	'vm.disk-add': 'Add disk', 'vm.disk-remove': 'Remove disk', 'vm.disk-grow': 'Grow disk',
	'host.autostart': 'Start VMs with the host', 'host.maintenance': 'Enter maintenance', 'host.restore': 'Leave maintenance',
	'vm.suspend': 'Suspend', 'vm.wake': 'Power on', 'vm.discard': 'Discard memory',
};
export const taskWords = kind => words[kind] ?? kind;
export const taskStateWords = { running: 'Running', undoing: 'Undoing', done: 'Completed', failed: 'Failed', cancelled: 'Cancelled', interrupted: 'Interrupted' };
