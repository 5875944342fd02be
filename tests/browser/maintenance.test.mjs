// maintenance.test.mjs: the host goes into maintenance and comes back, and every page says so.
import assert from 'node:assert/strict';
import { croft, rowOf, simulate, visit } from './house.mjs';

visit('into maintenance and out of it', async (v, page) => {
	await simulate('heron', { start: true });
	await rowOf(page, 'heron').getByText('Running').waitFor();
	await page.getByRole('link', { name: 'Host' }).click();
	await page.getByRole('button', { name: 'Enter maintenance' }).click();
	await page.getByRole('dialog').getByRole('button', { name: 'Enter maintenance' }).click();
	await page.getByText('This host is in maintenance, set by admin').waitFor();
	for (const place of ['Virtual machines', 'Datastores', 'Tasks', 'Host']) {
		await page.getByRole('link', { name: place }).first().click();
		await page.getByText('This host is in maintenance, set by admin').waitFor();
	}
	assert.equal(await page.getByRole('button', { name: 'Enter maintenance' }).count(), 0);
	await page.getByRole('link', { name: 'Virtual machines' }).first().click();
	await rowOf(page, 'heron').getByText('Powered off').waitFor();
	await page.getByRole('button', { name: 'Leave maintenance' }).click();
	await rowOf(page, 'heron').getByText('Running').waitFor();
	await page.getByText('This host is in maintenance').waitFor({ state: 'detached' });
	await croft.ok('POST', '/host/maintenance', undefined, { Prefer: 'wait=30' });	// and by somebody else
	await page.getByText('This host is in maintenance').waitFor();
	await croft.ok('DELETE', '/host/maintenance', undefined, { Prefer: 'wait=30' });
	await page.getByText('This host is in maintenance').waitFor({ state: 'detached' });
});
