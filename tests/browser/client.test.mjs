// client.test.mjs: the client with simulated VMs: login, list, power, settings, events, problems.
import assert from 'node:assert/strict';
import { pause, until } from './croft.mjs';
import { croft, rowOf, simulate, visit } from './house.mjs';

const state = (page, words) => page.locator('.head .state').getByText(words).waitFor();

visit('a wrong password is told, the right one lets in, and the page that was asked for is shown', async (v, page) => {
	v.allow(/answer 401: POST .*\/session/, /status of 401/);
	await v.open('#/tasks');
	await page.getByLabel('User name').fill('admin');
	await page.getByLabel('Password').fill('wrong');
	await page.keyboard.press('Enter');
	await page.getByRole('alert').waitFor();
	assert.match(await page.getByRole('alert').innerText(), /\w/);
	await page.getByLabel('Password').fill(croft.password);
	await page.keyboard.press('Enter');
	await page.getByRole('heading', { name: 'Tasks' }).waitFor();
	await page.reload();
	await page.getByRole('heading', { name: 'Tasks' }).waitFor();
}, { stranger: true });

visit('the list follows what happens elsewhere', async (v, page) => {
	const requests = [];
	await page.getByText('No virtual machines yet').waitFor();
	page.on('request', r => requests.push(r.url()));
	await simulate('heron', { config: { memory_bytes: 3 * 1024 ** 3 } });
	await rowOf(page, 'heron').getByText('3 GiB').waitFor();
	await rowOf(page, 'heron').getByText('Powered off').waitFor();
	await croft.ok('POST', '/vms/heron/start');
	await rowOf(page, 'heron').getByText('Running').waitFor();
	await croft.ok('POST', '/vms/heron/poweroff', undefined, { Prefer: 'wait=30' });
	await rowOf(page, 'heron').getByText('Powered off').waitFor();
	await croft.ok('PATCH', '/vms/heron', { name: 'egret' });
	await rowOf(page, 'egret').waitFor();
	await croft.ok('DELETE', '/vms/egret', undefined, { Prefer: 'wait=30' });
	await page.getByText('No virtual machines yet').waitFor();
	assert.deepEqual(requests, [], 'nothing was asked: it all came by the stream');
});

visit('create, power and delete from the page', async (v, page) => {
	// Only the API makes simulated VMs; the page makes real ones, that stay off here.
	await page.getByRole('button', { name: 'Create VM' }).first().click();
	await page.getByLabel('Name', { exact: true }).fill('wren');
	await page.getByRole('radio', { name: 'Installer ISO' }).check();
	await page.getByLabel('ISO file').fill('[local] none.iso');
	await page.getByLabel('CPUs').fill('3');
	await page.getByLabel('Disk', { exact: true }).fill('1');
	await page.getByLabel('SSH at host port').fill('2345');
	await page.getByRole('button', { name: 'Create only' }).click();
	await page.getByRole('heading', { name: 'wren' }).waitFor();
	await page.getByText('ssh -p 2345 127.0.0.1').waitFor();
	const { config } = await croft.ok('GET', '/vms/wren');
	assert.equal(config.cpus, 3);
	assert.equal(config.disks.disk0.size_bytes, 1024 ** 3);
	assert.equal(config.cdroms.cd0.iso, '[local] none.iso');
	assert.deepEqual(config.nics.net0.forwards, [{ protocol: 'tcp', host_address: '127.0.0.1', host_port: 2345, guest_port: 22 }]);
	await page.getByRole('region', { name: 'Recent tasks' }).getByRole('row').filter({ hasText: 'Create VM' })
		.filter({ hasText: 'wren' }).filter({ hasText: 'Completed' }).first().waitFor();
	await page.getByRole('button', { name: 'More' }).click();
	await page.getByRole('menuitem', { name: 'Delete VM' }).click();
	await page.getByRole('dialog').getByText('1 disk (disk0)').waitFor();
	await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
	await page.getByText('wren was deleted').waitFor();
	assert.equal((await croft.api('GET', '/vms/wren')).status, 404);

	await simulate('plover');
	await v.open('#/vms/plover');
	await page.getByRole('button', { name: 'Power on' }).click();
	await state(page, 'Running');
	await page.getByRole('button', { name: 'More' }).click();
	await page.getByRole('menuitem', { name: 'Pause' }).click();
	await state(page, 'Paused');
	await page.getByRole('button', { name: 'Resume' }).click();
	await state(page, 'Running');
	await page.getByRole('button', { name: 'Power off' }).click();
	await page.getByRole('dialog').getByText('pulling the plug').waitFor();
	await page.getByRole('dialog').getByRole('button', { name: 'Power off' }).click();
	await state(page, 'Powered off');
	await page.getByText('it was powered off').waitFor();
	const strip = page.getByRole('region', { name: 'Recent tasks' });
	for (const words of ['Power on', 'Pause', 'Resume', 'Power off'])
		await strip.getByRole('row').filter({ hasText: words }).filter({ hasText: 'Completed' }).first().waitFor();
});

visit('buttons are there for what state and permissions allow', async (v, page) => {
	await simulate('finch', { start: true });
	await croft.ok('POST', '/users', { name: 'eve', role: 'viewer', password: 'looks but does not touch' });
	await v.logIn('eve', 'looks but does not touch');
	await rowOf(page, 'finch').getByText('Running').waitFor();
	assert.equal(await page.getByRole('button', { name: 'Create VM' }).count(), 0);
	await page.getByRole('link', { name: 'finch' }).first().click();
	await page.getByRole('heading', { name: 'finch' }).waitFor();
	assert.equal(await page.getByRole('toolbar').count(), 0);
	assert.equal(await page.getByRole('link', { name: 'Serial console' }).count(), 0);
	await v.open('#/vms/finch/settings');
	assert.ok(await page.getByLabel('CPUs').isDisabled());
	await croft.ok('PATCH', '/users/eve', { role: 'operator' });
	v.allow(/401/, /INCOMPLETE_CHUNKED/);		// a changed role ends the session, and its stream
	await page.goto('about:blank');
	await v.context.clearCookies();
	await v.logIn('eve', 'looks but does not touch');
	await v.open('#/vms/finch');
	await page.getByRole('button', { name: 'Shut down' }).waitFor();
	await page.getByRole('button', { name: 'More' }).click();
	assert.equal(await page.getByRole('menuitem', { name: 'Delete VM' }).count(), 0);
	assert.ok(await page.getByRole('menuitem', { name: 'Resume' }).isDisabled());
	assert.ok(await page.getByRole('menuitem', { name: 'Pause' }).isEnabled());
}, { stranger: true });

visit('what is wrong stands at its field, with the way out', async (v, page) => {
	v.allow(/answer 4(09|22): POST .*\/vms$/, /status of 4(09|22)/);
	await page.getByRole('button', { name: 'Create VM' }).click();
	const dialog = page.getByRole('dialog');
	const create = () => dialog.getByRole('button', { name: 'Create only' }).click();
	await dialog.getByLabel('Name', { exact: true }).fill('finch');
	await dialog.getByLabel('Image', { exact: true }).fill('somewhere');
	await create();
	await dialog.getByText('a datastore path such as').waitFor();
	assert.equal(await dialog.getByLabel('Image', { exact: true }).getAttribute('aria-invalid'), 'true');
	await dialog.getByLabel('Image', { exact: true }).fill('[local] debian.qcow2');
	await create();
	await dialog.getByText('there is already a VM with the name "finch"').waitFor();
	assert.equal(await dialog.getByLabel('Name', { exact: true }).getAttribute('aria-invalid'), 'true');
	assert.equal(await dialog.getByLabel('Image', { exact: true }).getAttribute('aria-invalid'), null);
	await dialog.getByLabel('Name', { exact: true }).fill('far too large');
	await create();
	await dialog.getByText('letters, digits').waitFor();
	await page.keyboard.press('Escape');
	await until('the dialog is gone', 5, async () => await dialog.count() === 0);
	await until('the focus is where it was', 5, async () => await page.evaluate(() => document.activeElement.textContent) === 'Create VM');
});

visit('disks come, grow and go', async (v, page) => {
	await simulate('stork', { start: true, config: { disks: { system: { size_bytes: 2 ** 30 } } } });
	await v.open('#/vms/stork/settings');
	await page.getByRole('button', { name: 'Add a disk' }).click();
	const dialog = page.getByRole('dialog');
	await dialog.getByLabel('Name').fill('data');
	await dialog.getByLabel('Size', { exact: true }).fill('64');
	await dialog.getByRole('button', { name: 'Add' }).click();
	await page.locator('.disk-row').filter({ hasText: 'data' }).waitFor();
	await page.getByRole('button', { name: 'Grow data' }).click();
	await dialog.getByLabel('Size', { exact: true }).fill('128');
	await dialog.getByRole('button', { name: 'Grow' }).click();
	await page.locator('.disk-row').filter({ hasText: 'data' }).getByText('128 MiB').waitFor();
	await page.getByRole('button', { name: 'Limits of data' }).click();
	await dialog.getByLabel('Read at most').fill('10');
	await dialog.getByLabel('Writes at most').fill('500');
	await dialog.getByRole('button', { name: 'Save' }).click();
	await page.getByText('at most 10 MiB/s read, 500 writes/s').waitFor();
	const { limits } = (await croft.ok('GET', '/vms/stork')).config.disks.data;
	assert.deepEqual(limits, { read_bytes_per_s: 10 * 2 ** 20, write_bytes_per_s: 0, read_iops: 0, write_iops: 500 });
	await page.getByRole('button', { name: 'Remove data' }).click();
	await dialog.getByRole('button', { name: 'Remove' }).click();
	await until('it is gone', 5, async () => await page.locator('.disk-row').filter({ hasText: 'data' }).count() === 0);
	assert.deepEqual(Object.keys((await croft.ok('GET', '/vms/stork')).config.disks), ['system']);
});

visit('a failed task tells its problem and the way out', async (v, page) => {
	await croft.ok('POST', '/vms', { name: 'dodo', config: { firmware: 'kernel', kernel: { image: '[local] gone/vmlinuz' } } }, { Prefer: 'wait=30' });
	await v.open('#/vms/dodo');
	await page.getByRole('button', { name: 'Power on' }).click();
	const toast = page.getByRole('log', { name: 'Notes' });
	await toast.getByText('Power on dodo failed').waitFor();
	const strip = page.getByRole('region', { name: 'Recent tasks' });
	await strip.getByRole('button', { name: 'Power on' }).first().click();
	const { error } = (await croft.ok('GET', '/tasks?state=failed')).items[0];
	await toast.getByText(error.detail).waitFor();
	await strip.locator('.detail').getByText(error.detail).waitFor();
	if (error.hint)
		await toast.getByText(error.hint).waitFor();
	await toast.getByRole('button', { name: 'Dismiss' }).click();
	await until('the toast is gone', 5, async () => await toast.getByText('Power on dodo failed').count() === 0);
	await croft.ok('DELETE', '/vms/dodo', undefined, { Prefer: 'wait=30' });
});

visit('settings are saved, and what waits for the next start is marked', async (v, page) => {
	await simulate('robin', { start: true, labels: { env: 'lab' }, config: { nics: { net0: {} } } });
	await v.open('#/vms/robin/settings');
	await page.getByLabel('CPUs').fill('4');
	await page.getByLabel('Labels').fill('team:core quiet');
	await page.getByRole('button', { name: 'Forward a port' }).click();
	await page.getByLabel('Host port').fill('4022');
	await page.getByRole('button', { name: 'Save' }).click();
	await page.getByText('some of it takes effect at the next start').waitFor();
	await page.getByText('at next start').first().waitFor();
	const vm = await croft.ok('GET', '/vms/robin');
	assert.equal(vm.config.cpus, 4);
	assert.deepEqual(vm.labels, { team: 'core', quiet: '' });
	assert.equal(vm.config.nics.net0.forwards[0].host_port, 4022);
	assert.ok(vm.pending.includes('/config/cpus'));
	// Somebody else changes it while this form is being filled in.
	await page.getByLabel('Name', { exact: true }).fill('nightingale');
	await croft.ok('PATCH', '/vms/robin', { config: { description: 'sings' } });
	await page.getByText('was changed meanwhile').waitFor();
	v.allow(/answer 412/, /status of 412/);
	await page.getByRole('button', { name: 'Save' }).click();
	await page.getByRole('alert').waitFor();
	await page.getByRole('button', { name: 'Show it as it is now' }).click();
	await until('the note of the other', 5, async () => await page.getByLabel('Note', { exact: true }).inputValue() === 'sings');
	await page.getByLabel('Name', { exact: true }).fill('nightingale');
	await page.getByRole('button', { name: 'Save' }).click();
	await page.waitForURL(/#\/vms\/nightingale\/settings/);
	await page.getByRole('heading', { name: 'nightingale' }).waitFor();
});

visit('what becomes of a VM with the host, after a crash, with its cable and with USB devices', async (v, page) => {
	const stick = { port: '1-2', bus: 1, address: 4, vendor: '0781', product: '5581', serial: null, manufacturer: null, model: 'Ultra', kind: 'storage',
			speed_kbit: 480000, vm: null };
	await page.route('**/api/v1/host/usb*', route => route.fulfill({ json: { items: [stick, { ...stick, port: '1-3', address: 5 },
		{ ...stick, product: '5590', model: 'Taken', vm: 'somebody' }], next: null } }));	// few test machines have any
	await simulate('siskin', { config: { nics: { net0: {} }, usb: { old: { vendor: '10c4', product: 'ea60' } } } });
	await v.open('#/vms/siskin/settings');
	await page.getByLabel('After a crash').selectOption('Keep it as it is, to be looked at');
	await page.getByLabel('Memory can grow to').fill('1024');
	await page.getByLabel('Guest agent').uncheck();
	await page.getByLabel('Start it with the host').check();
	await page.getByLabel('Order', { exact: true }).fill('1001');
	assert.match(await page.getByLabel('Order', { exact: true }).evaluate(e => e.validationMessage), /1000/, 'the limit is the API document’s');
	await page.getByLabel('Order', { exact: true }).fill('5');
	await page.getByLabel('Delay').fill('7');
	await page.getByLabel('The next order begins').selectOption('When its port opens');
	await page.getByLabel('Its port').fill('22');
	await page.getByLabel('At the latest after').fill('30');
	await page.getByLabel('When the host shuts down').selectOption('Suspend it');
	await page.getByLabel('Its cable is plugged in').uncheck();
	await page.getByRole('button', { name: 'Attach a USB device' }).press('Enter');
	assert.ok(await page.getByRole('menuitem', { name: 'Taken' }).isDisabled());
	await page.getByRole('menuitem', { name: 'Ultra' }).first().press('Enter');
	await page.getByText('is attached when this is saved').waitFor();
	await page.getByRole('button', { name: 'Detach old' }).click();
	v.allow(/answer 422: PATCH/, /status of 422/);
	await page.getByRole('button', { name: 'Save' }).click();
	await page.getByText('no forward leads there').waitFor();
	assert.equal(await page.getByLabel('Its port').getAttribute('aria-invalid'), 'true');
	await until('what is wrong is in sight', 5, async () => (await page.getByLabel('Its port').boundingBox()).y > 0);
	await page.getByRole('button', { name: 'Forward a port' }).click();
	await page.getByLabel('Host port').fill('4122');
	await page.getByRole('button', { name: 'Save' }).click();
	await page.getByText('siskin is saved').waitFor();
	const { config } = await croft.ok('GET', '/vms/siskin');
	assert.equal(config.on_crash, 'keep');
	assert.equal(config.memory_max_bytes, 2 ** 30);
	assert.equal(config.guest_agent, false);
	assert.equal(config.autostart, true);
	assert.deepEqual(config.startup, { order: 5, delay_s: 7, gate: 'port', port: 22, patience_s: 30 });
	assert.equal(config.shutdown.action, 'suspend');
	assert.equal(config.nics.net0.connected, false);
	const { vendor, product, port } = config.usb.usb0;
	assert.deepEqual({ vendor, product, port }, { vendor: '0781', product: '5581', port: '1-2' }, 'twins are told apart by their port');
	assert.deepEqual(Object.keys(config.usb), ['usb0']);
	await page.getByLabel('Memory can grow to').fill('');
	await page.getByRole('button', { name: 'Save' }).click();
	await until('it is saved', 5, async () => (await croft.ok('GET', '/vms/siskin')).config.memory_max_bytes === 0);
});

visit('what people write is text and never markup', async (v, page) => {
	const evil = '<img src=x onerror="document.title=\'owned\'"><b>bold</b>';
	await simulate('magpie', { labels: { note: evil }, config: { description: evil } });
	await page.getByLabel('Filter').fill('magpie');
	await rowOf(page, 'magpie').getByText(evil).waitFor();
	await rowOf(page, 'magpie').getByRole('link').click();
	await page.getByText(evil).first().waitFor();
	assert.equal(await page.locator('main img').count(), 0);
	await v.open('#/vms/' + encodeURIComponent(evil));
	await page.getByRole('heading', { name: 'There is no VM' }).waitFor();
	await pause(200);
	assert.doesNotMatch(await page.title(), /owned$/);
});

visit('files are uploaded, replaced, downloaded and deleted', async (v, page) => {
	v.allow(/answer 409: PUT/, /status of 409/);
	const file = text => ({ name: 'notes & more.iso', mimeType: 'application/octet-stream', buffer: Buffer.from(text) });
	await v.open('#/datastores');
	await page.getByRole('link', { name: /local/ }).last().click();
	await page.getByRole('button', { name: 'New folder' }).click();
	await page.getByRole('dialog').getByLabel('Name').fill('iso');
	await page.keyboard.press('Enter');
	await page.getByRole('link', { name: 'iso' }).click();
	await page.getByText('This folder is empty').waitFor();
	await page.locator('input[type=file]').setInputFiles([file('one')]);
	await page.getByRole('row').filter({ hasText: 'notes & more.iso' }).getByText('3 B').first().waitFor();
	await page.locator('input[type=file]').setInputFiles([file('three')]);
	await page.getByRole('button', { name: 'Replace' }).click();
	await page.getByRole('row').filter({ hasText: 'notes & more.iso' }).getByText('5 B').first().waitFor();
	const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: /^Download/ }).click()]);
	assert.equal(download.suggestedFilename(), 'notes & more.iso');
	let text = '';
	for await (const piece of await download.createReadStream())
		text += piece;
	assert.equal(text, 'three');
	await page.getByRole('button', { name: 'Delete notes & more.iso' }).click();
	await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
	await page.getByText('This folder is empty').waitFor();
});

visit('the host is shown as it is, with reasons', async (v, page) => {
	const { facts, agent } = await croft.ok('GET', '/host');
	await v.open('#/host');
	await page.getByRole('heading', { name: agent.hostname }).waitFor();
	await page.getByText(facts.accel_reason).first().waitFor();
	for (const limit of facts.limits)
		await page.getByText(limit.reason).first().waitFor();
});

visit('the doctor examines the host and says what mends it', async (v, page) => {
	await v.open('#/host');
	const doctor = page.getByRole('region', { name: 'Doctor' });
	await doctor.getByRole('button', { name: 'Examine' }).click();
	await doctor.getByText('looked at').waitFor();
	const found = await croft.ok('GET', '/host/doctor');
	for (const f of found.findings.filter(x => x.severity === 'note' && /^no-/.test(x.what)))
		await doctor.getByText(f.text).waitFor();
});
