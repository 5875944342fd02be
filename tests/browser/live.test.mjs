// live.test.mjs: what keeps the client true: one stream for all tabs, croftd killed and back, sessions that end, thousands of VMs.
import assert from 'node:assert/strict';
import { until } from './croft.mjs';
import { croft, rowOf, simulate, visit } from './house.mjs';

const MANY = process.env.SAN ? 300 : 2000;

visit('one stream serves all tabs, and another tab takes over', async v => {
	const streams = [];
	v.context.on('request', r => /\/api\/v1\/events$/.test(r.url()) && streams.push(r));
	const tabs = [v.page];
	await v.page.reload();
	await v.page.getByText('Live').waitFor();
	for (let i = 0; i < 7; i++) {
		const tab = await v.context.newPage();
		await tab.goto(croft.url + '#/vms');
		await tab.getByText('Live').waitFor();
		tabs.push(tab);
	}
	assert.equal(streams.length, 1, 'one stream');
	await simulate('swift');
	for (const tab of tabs)
		await rowOf(tab, 'swift').waitFor();
	await tabs.shift().close();
	await until('another stream', 10, () => streams.length === 2);
	await simulate('swallow');
	for (const tab of tabs)
		await rowOf(tab, 'swallow').waitFor();
	assert.equal(streams.length, 2);
	v.page = tabs[0];
});

visit('logging out in one tab ends all, and a session that ends elsewhere says so', async (v, page) => {
	v.allow(/401/, /INCOMPLETE_CHUNKED/);
	const other = await v.context.newPage();
	await other.goto(croft.url + '#/host');
	await other.getByText('Live').waitFor();
	await page.getByTitle('Account').click();
	await page.getByRole('menuitem', { name: 'Log out' }).click();
	await page.getByLabel('Password').waitFor();
	await other.getByLabel('Password').waitFor();
	await other.getByText('Your session has ended').waitFor();
	assert.equal((await v.context.request.get(`${croft.url}api/v1/session`)).status(), 401);
	await other.getByLabel('User name').fill('admin');
	await other.getByLabel('Password').fill(croft.password);
	await other.keyboard.press('Enter');
	await other.getByRole('heading', { name: 'Capacity' }).waitFor();
	assert.match(other.url(), /#\/host$/, 'the page that it was on');
});

visit('croftd is killed and comes back: the page says so, then shows what is', async (v, page) => {
	v.allow(/ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING|CONNECTION_RESET|EMPTY_RESPONSE|SOCKET_NOT_CONNECTED|CONNECTION_CLOSED)/);
	await simulate('stork');
	await rowOf(page, 'stork').waitFor();
	await croft.kill();
	await page.getByText('The connection to the host is broken').waitFor();
	await croft.start();
	await croft.ok('PATCH', '/vms/stork', { config: { description: 'back again' } });
	await page.getByText('Live').waitFor();
	await rowOf(page, 'stork').getByText('back again').waitFor();
	assert.equal(await page.getByText('The connection to the host is broken').count(), 0);
}, { seconds: 120 });

visit(`${MANY} VMs scroll, sort and filter, and only rows in view are drawn`, async (v, page) => {
	for (let i = 0; i < MANY; i += 50)
		await Promise.all(Array.from({ length: 50 }, (_, k) => simulate(`vm-${String(i + k).padStart(4, '0')}`, { config: { memory_bytes: (600 + (i + k) % 332) * 2 ** 20 } })));
	const rows = () => page.locator('main tbody tr').count();
	const last = `vm-${String(MANY - 1).padStart(4, '0')}`;
	await page.reload();
	await page.getByRole('button', { name: `Off ${MANY}` }).or(page.getByRole('button', { name: /^Off/ })).first().waitFor();
	await until('all of them', 30, async () => Number((await page.locator('.navigator .count').first().innerText())) >= MANY);
	assert.ok(await rows() < 120, `${await rows()} rows are drawn`);
	await page.locator('.scrolls').evaluate(e => e.scrollTo(0, e.scrollHeight));
	await rowOf(page, last).waitFor();
	assert.ok(await rows() < 120);
	await page.keyboard.press('/');
	await page.keyboard.type(last);
	await until('one row', 5, async () => await rows() === 1);
	assert.match(page.url(), new RegExp(`filter=${last}`));
	await page.getByLabel('Filter').fill('');
	await page.getByRole('button', { name: 'Memory' }).click();
	await page.getByRole('button', { name: 'Memory' }).click();
	await until('the largest first', 5, async () => new RegExp(`${599 + Math.min(MANY, 332)} MiB`).test(await page.locator('main tbody tr').first().innerText()));
	// A burst of changes is drawn in time.
	const start = Date.now();
	await Promise.all(Array.from({ length: 100 }, (_, i) => croft.ok('POST', `/vms/vm-${String(i).padStart(4, '0')}/start`)));
	await until('100 run', 20, async () => /\b1\d\d\b/.test(await page.getByRole('button', { name: /^On/ }).innerText()));
	console.log(`# 100 power-ons were shown after ${Date.now() - start} ms`);
}, { seconds: 240 });
