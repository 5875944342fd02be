// house.mjs: what a file of tests stands on: a croftd, a browser, and tests that are visits.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import test, { after, before } from 'node:test';
import { launch, Visitor } from './browser.mjs';
import { built, Croft } from './croft.mjs';

const SLOW = process.env.SAN ? 5 : 1;
export const croft = new Croft();
let browser;

before(async () => {
	await croft.start();
	await croft.logIn();
	browser = await launch();
}, { timeout: 60_000 * SLOW });

after(async () => {
	await browser?.close();
	const code = await croft.stop();
	assert.equal(code, 0, 'croftd --stop');
	assert.doesNotMatch(croft.output, /ERROR: \w+Sanitizer|runtime error: /);
}, { timeout: 120_000 * SLOW });

// A test with a visitor who is logged in (unless how.stranger). It fails when the browser complained about anything.
export function visit(name, fn, how = {}) {
	test(name, { timeout: (how.seconds ?? 90) * 1000 * SLOW, skip: how.skip }, async () => {
		const v = await Visitor.come(browser, croft, how.options);
		try {
			if (!how.stranger)
				await v.logIn();
			await fn(v, v.page);
			assert.deepEqual(v.unexpected(), [], 'what the browser complained about');
		} catch (error) {
			mkdirSync(join(built, 'test-logs'), { recursive: true });
			const picture = join(built, 'test-logs', `browser-${name.replace(/\W+/g, '-')}.png`);
			await v.page.screenshot({ path: picture }).catch(() => {});
			console.log(`# ${name}: ${picture}; the browser said ${JSON.stringify(v.complaints.slice(-10))}`);
			throw error;
		} finally {
			await v.leave();
		}
	});
}

// A simulated VM, made beside the browser.
export const simulate = (name, more = {}) => croft.ok('POST', '/vms', { name, ...more, config: { engine: 'sim', ...more.config } },
	{ Prefer: 'wait=30' });
export const rowOf = (page, name) => page.getByRole('table', { name: 'Virtual machines' }).getByRole('row').filter({
	has: page.getByRole('link', { name, exact: true }) });
