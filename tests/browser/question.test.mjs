// question.test.mjs: a disk that is full: the guest stands still, every page of the VM asks, and a button decides.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { guest, hasGuest, until } from './croft.mjs';
import { croft, rowOf, visit } from './house.mjs';

const skip = !hasGuest() ? 'build/guest is missing: make guest' : process.getuid() !== 0 ? 'only root mounts' : false;
const store = join(croft.home, 'h/datastores/local');
const filler = join(store, 'filler');
const state = (page, words) => page.locator('.head .state').getByText(words).waitFor({ timeout: 60_000 });

if (!skip) {
	mkdirSync(store, { recursive: true });
	execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=160m,mode=700', 'croft-test', store]);
	croft.afterwards.push(() => execFileSync('umount', ['-l', store]));
}

function fill(leave) {
	const s = statfsSync(store);
	writeFileSync(filler, Buffer.alloc(s.bavail * s.bsize - leave));
}

const write = (page, from, mib) => page.keyboard.type(`dd if=/dev/zero of=/dev/vda bs=1M seek=${from} count=${mib} oflag=direct\n`, { delay: 10 });

visit('a full disk asks, and the answer decides', async (v, page) => {
	for (const file of ['vmlinuz', 'initrd.gz'])
		await croft.ok('PUT', `/datastores/local/files/${file}`, readFileSync(join(guest, file)));
	await croft.ok('POST', '/vms', { name: 'full', start: true, config: { firmware: 'kernel', display: 'none', disks: { data: { size_bytes: 64 * 2 ** 20 } },
		kernel: { image: '[local] vmlinuz', initrd: '[local] initrd.gz', command_line: 'console=ttyAMA0' } } }, { Prefer: 'wait=60' });
	await v.open('#/vms/full/serial');
	const terminal = page.frameLocator('iframe').locator('.xterm-rows');
	const said = async () => (await terminal.innerText()).replaceAll('\u00a0', ' ');
	await until('the shell', 60, async () => /demo:~#/.test(await said()));
	fill(8 * 2 ** 20);
	await page.frameLocator('iframe').locator('.xterm').click();
	await write(page, 0, 32);
	const question = page.getByRole('alert').filter({ hasText: 'full waits' });
	await question.getByText('no space').waitFor({ timeout: 60_000 });
	await state(page, 'Paused');
	assert.equal(await page.getByRole('toolbar').getByRole('button', { name: 'Resume' }).count(), 0, 'Retry is the one way on');
	await page.getByRole('link', { name: 'Virtual machines' }).first().click();
	await rowOf(page, 'full').getByText('no space').waitFor();
	await rowOf(page, 'full').getByRole('link').click();
	rmSync(filler);
	await question.getByRole('button', { name: 'Retry' }).press('Enter');
	await state(page, 'Running');
	await question.waitFor({ state: 'detached' });

	await page.getByRole('link', { name: 'Serial console' }).click();
	await until('the first write ends', 60, async () => (await said()).includes('32+0 records out'));
	fill(4 * 2 ** 20);
	await page.frameLocator('iframe').locator('.xterm').click();
	await write(page, 34, 24);
	await question.getByRole('button', { name: 'Power off' }).click({ timeout: 60_000 });
	await page.getByRole('dialog').getByText('pulling the plug').waitFor();
	await page.getByRole('dialog').getByRole('button', { name: 'Power off' }).click();
	await state(page, 'Powered off');
	await question.waitFor({ state: 'detached' });
}, { skip, seconds: 240 });
