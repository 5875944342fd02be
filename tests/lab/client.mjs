// client.mjs URL PASSWORD: the browser client of a host of the lab, seen from outside. There is a VM "guest" that runs.
import assert from 'node:assert/strict';
import { launch, Visitor } from '../browser/browser.mjs';
import { until } from '../browser/croft.mjs';

const [url, password] = process.argv.slice(2);
const browser = await launch();
const v = await Visitor.come(browser, { url, password });
const { page } = v;
const text = async where => (await where.innerText()).replaceAll('\u00a0', ' ');
try {
	v.context.setDefaultTimeout(60_000);
	await v.logIn();
	await v.open('#/host');
	await until('the host says that KVM runs its guests', 30, async () => /a virtual CPU has run in a probe/.test(await text(page.locator('main'))));

	await v.open('#/vms');
	await page.getByRole('link', { name: 'guest', exact: true }).first().click();
	await page.locator('.head .state').getByText('Running').waitFor();
	await page.getByRole('link', { name: 'Serial console' }).first().click();
	const rows = page.frameLocator('iframe').locator('.xterm-rows');
	await until('the shell', 60, async () => /demo:~#/.test(await text(rows)));
	await page.frameLocator('iframe').locator('.xterm').click();
	await page.keyboard.type('echo $((1234 * 5678))\n', { delay: 20 });
	await until('the answer', 60, async () => /7006652/.test(await text(rows)));

	await page.getByRole('button', { name: 'Shut down' }).click();
	await page.locator('.head .state').getByText('Powered off').waitFor();
	await page.getByRole('button', { name: 'Power on' }).click();
	await page.locator('.head .state').getByText('Running').waitFor();
	assert.deepEqual(v.unexpected(), [], 'what the browser complained about');
} catch (error) {
	console.log(v.page.url(), v.complaints.slice(-10));
	throw error;
} finally {
	await browser.close();
}
