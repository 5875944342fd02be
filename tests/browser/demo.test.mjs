// demo.test.mjs: the demo guest from its files to its shell, all in the browser: created, booted, typed into, seen.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { guest, hasGuest, until } from './croft.mjs';
import { croft, visit } from './house.mjs';

const skip = hasGuest() ? false : 'build/guest is missing: make guest';
const state = (page, words) => page.locator('.head .state').getByText(words).waitFor({ timeout: 60_000 });
const terminal = page => page.frameLocator('iframe').locator('.xterm-rows');
const text = async where => (await where.innerText()).replaceAll('\u00a0', ' ');

// A command at the guest's shell; its answer is told apart from the echo of the line.
async function command(page, where, a, b) {
	await page.keyboard.type(`echo $((${a} * ${b}))\n`, { delay: 20 });
	await until(`the answer ${a * b}`, 60, async () => (await text(where)).includes(String(a * b)));
}

// How many pixels of the screen are lit.
const lit = page => page.evaluate(() => {
	const canvas = document.querySelector('.screen canvas');
	if (!canvas?.width)
		return 0;
	const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
	let n = 0;
	for (let i = 0; i < data.length; i += 4)
		n += data[i] + data[i + 1] + data[i + 2] > 150;
	return n;
});

visit('the demo VM is created, booted and typed into', async (v, page) => {
	await v.open('#/datastores/local');
	await page.locator('input[type=file]').setInputFiles([join(guest, 'vmlinuz'), join(guest, 'initrd.gz')]);
	for (const file of ['vmlinuz', 'initrd.gz'])
		await page.getByRole('table', { name: 'Files' }).getByText(file, { exact: true }).waitFor({ timeout: 60_000 });
	await until('the uploads end', 60, async () => await page.locator('.uploads').count() === 0);
	await page.getByRole('link', { name: 'Virtual machines' }).click();
	await page.getByRole('button', { name: 'Create VM' }).click();
	await page.getByLabel('Name', { exact: true }).fill('demo');
	await page.getByRole('radio', { name: 'Linux kernel' }).check();
	await page.getByLabel('Kernel', { exact: true }).fill('[local] vmlinuz');
	await page.getByLabel('Initial RAM disk').fill('[local] initrd.gz');
	await page.getByLabel('Memory', { exact: true }).fill('512');
	await page.getByLabel('Unit').first().selectOption('MiB');
	await page.getByRole('button', { name: 'Create and power on' }).click();
	await state(page, 'Running');
	await page.getByRole('link', { name: 'Serial console' }).first().click();
	await until('the shell', 240, async () => /demo:~#/.test(await text(terminal(page))));
	await page.frameLocator('iframe').locator('.xterm').click();
	await command(page, terminal(page), 1234, 5678);
}, { skip, seconds: 400 });

visit('pixels of the screen change after a key', async (v, page) => {
	await v.open('#/vms/demo/screen');
	await page.locator('.screen[data-state=open]').waitFor();
	await until('the guest has written on its screen', 60, async () => await lit(page) > 500);
	await page.locator('.screen canvas').click();
	const before = await lit(page);
	await page.keyboard.type('echo what is typed is drawn', { delay: 30 });
	// (A cursor that blinks lights some dozen pixels; these letters light hundreds.)
	await until('the letters are drawn', 30, async () => await lit(page) > before + 300);
	const fits = await page.locator('.screen canvas').boundingBox(), box = await page.locator('.screen').boundingBox();
	assert.ok(fits.width <= box.width + 1 && fits.height <= box.height + 1, 'it fits');
	await page.getByRole('button', { name: '1:1' }).click();
	await page.getByRole('button', { name: 'Fit' }).click();
	await page.getByRole('link', { name: 'Summary' }).click();
	await page.locator('.thumb[data-state=open] canvas').waitFor();
}, { skip, seconds: 150 });

visit('a page that is left while its screen is being joined complains of nothing', async (v, page) => {
	await v.open('#/vms/demo');
	for (let i = 0; i < 5; i++) {
		const [socket] = await Promise.all([page.waitForEvent('websocket'),
			page.evaluate(() => new Promise(left => {
				const Real = window.WebSocket;
				window.WebSocket = class extends Real {
					constructor(...how) {
						super(...how);
						window.WebSocket = Real;
						location.hash = '#/vms';
						left();
					}
				};
				location.hash = '#/vms/demo/screen';
			}))]);
		if (!socket.isClosed())
			await socket.waitForEvent('close');
	}
}, { skip });

visit('the serial console in a tab of its own has what was said, and two may type', async (v, page) => {
	await v.open('#/vms/demo/serial');
	const [own] = await Promise.all([v.context.waitForEvent('page'), page.getByRole('link', { name: 'Own tab' }).click()]);
	const rows = own.locator('.xterm-rows');
	await until('the history', 20, async () => (await text(rows)).includes('7006652'));
	await own.locator('.xterm').click();
	await command(own, rows, 4321, 8765);
	await until('the other sees it', 10, async () => (await text(terminal(page))).includes(String(4321 * 8765)));
	const policy = (await v.context.request.get(`${croft.url}serial.html`)).headers()['content-security-policy'];
	assert.match(policy, /script-src 'self';/);
	const pages = (await v.context.request.get(croft.url)).headers()['content-security-policy'];
	assert.doesNotMatch(pages, /unsafe/);
}, { skip });

visit('croftd is killed: the console comes back with its history, and the guest has not noticed', async (v, page) => {
	v.allow(/ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING|CONNECTION_RESET|EMPTY_RESPONSE|SOCKET_NOT_CONNECTED|CONNECTION_CLOSED)/,
		/WebSocket/);
	await v.open('#/vms/demo/serial');
	await until('the history', 20, async () => (await text(terminal(page))).includes('37873565'));
	await croft.kill();
	await page.frameLocator('iframe').locator('#note').getByText(/\w/).waitFor();
	await croft.start();
	await page.getByText('Live').waitFor({ timeout: 30_000 });
	await state(page, 'Running');
	await page.frameLocator('iframe').locator('body[data-state=open]').waitFor({ timeout: 30_000 });
	await until('the history again', 20, async () => (await text(terminal(page))).includes('37873565'));
	await page.frameLocator('iframe').locator('.xterm').click();
	await command(page, terminal(page), 1111, 7777);
}, { skip, seconds: 150 });

visit('the guest is shut down, and the page says how it ended', async (v, page) => {
	v.allow(/Failed when connecting: Connection closed/, /WebSocket connection to .* failed/);	// QEMU ends while the small picture is joined
	await v.open('#/vms/demo');
	await page.getByRole('button', { name: 'Shut down' }).click();
	await state(page, 'Powered off');
	await page.getByText('the guest shut itself down').waitFor();
	await v.open('#/vms/demo/screen');
	await page.getByText('Its screen appears here when it is powered on').waitFor();
	await v.open('#/vms/demo/serial');
	await until('the last words of the last run', 20, async () => /reboot: Power down/.test(await text(terminal(page))));
}, { skip, seconds: 150 });
