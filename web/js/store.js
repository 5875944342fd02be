// store.js: what this browser knows of the host: read once, then kept true by events. Components read the signals.
import { batch, computed, signal } from './lib.js';
import { get, getAll, onLoggedOut, post, del } from './api.js';
import { followEvents } from './events.js';
import { failedTask, forgetToasts } from './toasts.js';

const TASKS_KEPT = 300;

export const session = signal(undefined);	// undefined: not asked yet; null: nobody; else { user, role, via, permissions, expires }
export const expired = signal('');		// why the session ended, for the login page
export const vms = signal(null);		// null: not read yet; else Map of id -> Vm
export const tasks = signal(new Map());		// id -> Task, the latest ones
export const host = signal(null);
export const filesChanged = signal(0);		// grows when something happened on a datastore
export const storeProblem = signal(null);	// why the lists could not be read

export const can = permission => Boolean(session.value?.permissions?.includes(permission));
export const vmList = computed(() => [...vms.value?.values() ?? []].sort((a, b) => compareNames(a.name, b.name)));
export const taskList = computed(() => [...tasks.value.values()].sort((a, b) => b.id - a.id));
export const isUnderWay = task => task.state === 'running' || task.state === 'undoing';

// Which task holds which object: the tasks say so themselves, from their first event to their last.
const holders = computed(() => new Map([...tasks.value.values()].filter(isUnderWay).map(task => [task.target, task])));

const collator = new Intl.Collator('en', { numeric: true });
export const compareNames = collator.compare;

// The task that holds a VM, or null. (One that this browser has not read yet is known by its number only.)
export function heldBy(vm) {
	const id = vm.status.task;
	return holders.value.get(vm.id) ?? (id && !tasks.value.has(id) ? { id, kind: '', cancellable: false, progress: 0 } : null);
}

export function findVm(key) {
	const all = vms.value;
	if (!all)
		return null;
	if (all.has(key))
		return all.get(key);
	for (const vm of all.values())
		if (vm.name === key)
			return vm;
	return null;
}

// ---- events: applied in bunches, for thousands of them may come at once

let waiting = [], timer = 0, reading = null;

function apply() {
	timer = 0;
	if (reading)
		return;			// their turn comes after the lists, which may be older
	const events = waiting;
	waiting = [];
	const changed = { vms: null, tasks: null, files: false, maintenance: null };
	for (const e of events) {
		const [noun, verb] = e.kind.split('.');
		if (noun === 'vm' && vms.value) {
			changed.vms ??= new Map(vms.value);
			if (verb === 'deleted')
				changed.vms.delete(e.target);
			else if (e.data?.id)
				changed.vms.set(e.data.id, e.data);
		} else if (noun === 'task' && e.data?.id) {
			changed.tasks ??= new Map(tasks.value);
			noteTask(changed.tasks, e.data);
		} else if (noun === 'file' || noun === 'datastore') {
			changed.files = true;
		} else if (noun === 'host' && e.data?.maintenance) {
			changed.maintenance = e.data.maintenance;
		}
	}
	batch(() => {
		if (changed.vms)
			vms.value = changed.vms;
		if (changed.tasks)
			tasks.value = kept(changed.tasks);
		if (changed.files)
			filesChanged.value++;
		if (changed.maintenance && host.value)
			host.value = { ...host.value, agent: { ...host.value.agent, maintenance: changed.maintenance } };
	});
}

function noteTask(all, task) {
	const before = all.get(task.id);
	all.set(task.id, task);
	if (task.state === 'failed' && (!before || isUnderWay(before)) && task.user === session.value?.user)
		failedTask(task);
}

const kept = all => all.size <= TASKS_KEPT ? all :
	new Map([...all].sort((a, b) => b[0] - a[0]).slice(0, TASKS_KEPT));

function onEvent(e) {
	waiting.push(e);
	timer ||= setTimeout(apply, 30);
}

// ---- reading all

async function readAll() {
	const mine = reading = {};
	waiting = [];
	try {
		const [allVms, someTasks, facts] = await Promise.all([
			can('vm.view') ? getAll('/vms') : [], can('vm.view') ? get('/tasks?limit=100') : { items: [] },
			can('host.view') ? get('/host') : null]);
		if (reading !== mine)
			return;
		batch(() => {
			vms.value = new Map(allVms.map(vm => [vm.id, vm]));
			tasks.value = new Map(someTasks.items.map(task => [task.id, task]));
			host.value = facts;
			storeProblem.value = null;
		});
	} catch (problem) {
		if (reading !== mine)
			return;
		storeProblem.value = problem;
		setTimeout(() => reading === mine && session.value && readAll(), 3000);
		return;
	}
	reading = null;
	apply();
}

// ---- session

const KEY = 'croft.session';		// somebody was logged in here: only then the host is asked who it is
let stopFollowing = null;

function remember(who) {
	try {
		if (who)
			localStorage.setItem(KEY, 'yes');
		else
			localStorage.removeItem(KEY);
	} catch { /* then the next visit begins at the login */ }
}

function remembered() {
	try {
		return localStorage.getItem(KEY) === 'yes';
	} catch {
		return false;
	}
}

function begin(who) {
	remember(who);
	batch(() => {
		session.value = who;
		expired.value = '';
	});
	stopFollowing = followEvents({ event: onEvent, fresh: readAll, loggedOut: () => end('Your session has ended.') });
}

function end(why) {
	stopFollowing?.();
	stopFollowing = reading = null;
	waiting = [];
	forgetToasts();
	remember(null);
	batch(() => {
		session.value = null;
		expired.value = why;
		vms.value = host.value = storeProblem.value = null;
		tasks.value = new Map();
	});
}

onLoggedOut(() => session.value && end('Your session has ended.'));

export async function resumeSession() {
	if (!remembered()) {
		session.value = null;
		return;
	}
	try {
		begin(await get('/session', { quiet: true }));
	} catch (problem) {
		end(problem.status === 401 || problem.status === 403 ? 'Your session has ended.' : problem.message);
	}
}

export async function logIn(name, password) {
	await post('/session', { name, password }, { quiet: true });
	begin(await get('/session'));
}

export async function logOut() {
	const who = session.value;
	stopFollowing();			// else the host cuts the stream, and that looks like a failure
	try {
		await del('/session', { quiet: true });
		end('');
	} catch (problem) {
		begin(who);
		throw problem;
	}
}
