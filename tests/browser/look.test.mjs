// look.test.mjs: every page by keyboard, on a phone, in light and dark, and for those who listen to it (axe).
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { pause, until } from './croft.mjs';
import { croft, rowOf, simulate, visit } from './house.mjs';

const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const pages = ['#/vms', '#/vms/owl', '#/vms/owl/settings', '#/vms/owl/tasks', '#/host', '#/datastores', '#/datastores/local', '#/tasks'];
const phone = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };
const name = 'owl';

async function ready() {
	if ((await croft.api('GET', `/vms/${name}`)).status === 404)
		await simulate(name, { start: true, labels: { env: 'lab' }, config: { description: 'sees at night',
			disks: { disk0: { size_bytes: 2 ** 30 } }, nics: { net0: { forwards: [{ host_port: 2022, guest_port: 22 }] } } } });
}

// (The stream of events never lets the network fall idle.)
const settled = page => page.locator('main h1').waitFor().then(() => pause(300));

visit('everything is reached by keyboard', async (v, page) => {
	await ready();
	await simulate('auk');
	await rowOf(page, 'auk').waitFor();
	const focus = words => until(`the focus on ${words}`, 5, async () => await focused() === words);
	const focused = () => page.evaluate(() => document.activeElement.textContent.trim() || document.activeElement.getAttribute('aria-label'));
	await page.locator('body').press('Tab');
	await focus('To the page');
	await page.keyboard.press('/');
	await focus('Filter');
	await rowOf(page, 'auk').getByRole('link').focus();
	await page.keyboard.press('ArrowDown');
	await focus('owl');
	await page.keyboard.press('Enter');
	await page.getByRole('heading', { name: 'owl' }).waitFor();
	await page.getByRole('button', { name: 'More' }).focus();
	await page.keyboard.press('Enter');
	await focus('Pause');
	await page.keyboard.press('ArrowDown');
	await focus('Suspend');
	await page.keyboard.press('ArrowDown');
	await focus('Reset');
	await page.keyboard.press('Enter');
	await page.getByRole('dialog').waitFor();
	await page.keyboard.press('Escape');
	assert.equal(await page.getByRole('dialog').count(), 0);
	const seen = await page.getByRole('button', { name: 'Shut down' }).evaluate(e => {
		e.focus({ focusVisible: true });
		return getComputedStyle(e).outlineStyle;
	});
	assert.equal(seen, 'solid', 'the focus is visible');
});

visit('nothing overflows on a phone', async (v, page) => {
	await ready();
	for (const path of pages) {
		await v.open(path);
		await settled(page);
		const wide = await page.evaluate(() => [...document.querySelectorAll('body *')].filter(e =>
			e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scrolls, .tabs, .sheet:has(> .grid), .strip-body, .unseen') &&
			getComputedStyle(e).position !== 'fixed').map(e => e.outerHTML.slice(0, 80)));
		assert.deepEqual(wide, [], path);
	}
	await v.open('#/vms');
	await page.getByRole('button', { name: 'Create VM' }).click();
	const box = await page.getByRole('dialog').boundingBox();
	assert.ok(box.x >= 0 && box.x + box.width <= 360, JSON.stringify(box));
}, { options: phone });

for (const colorScheme of ['light', 'dark'])
	visit(`axe finds nothing, ${colorScheme}`, async (v, page) => {
		await ready();
		for (const path of [...pages, 'create']) {
			if (path === 'create') {
				await v.open('#/vms');
				await page.getByRole('button', { name: 'Create VM' }).click();
			} else {
				await v.open(path);
			}
			await settled(page);
			await page.addScriptTag({ path: axe });
			const found = await page.evaluate(async () => (await window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice'] }))
				.violations.map(w => `${w.id}: ${w.nodes.map(n => n.html.slice(0, 120) + ' ' + n.failureSummary).join(' | ')}`));
			assert.deepEqual(found, [], path);
		}
	}, { options: { colorScheme, bypassCSP: true } });
