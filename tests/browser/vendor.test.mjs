// vendor.test.mjs: the libraries are the files that were taken from npm, and no code goes around the view's text nodes.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { top } from './croft.mjs';

const web = join(top, 'web');

test('web/vendor is as HASHES says', () => {
	execFileSync('node', [join(top, 'tests/browser/vendor.mjs')], { stdio: 'pipe' });
});

test('every library has its licence beside it', () => {
	const packages = readFileSync(join(web, 'vendor/HASHES'), 'utf8').split('\n').filter(l => l.startsWith('# npm '));
	assert.ok(packages.length >= 5);
	for (const line of packages) {
		const [, , name, version, license, integrity] = line.split(' ');
		assert.ok(readdirSync(join(web, 'vendor', name)).some(f => /^LICEN[SC]E/.test(f)), name);
		assert.match(`${version} ${license} ${integrity}`, /^\d+\.\d+\.\d+ \S+ sha512-/);
	}
});

test('our modules write no markup, run no text as code, and set no style attribute', () => {
	for (const file of readdirSync(join(web, 'js'))) {
		const text = readFileSync(join(web, 'js', file), 'utf8');
		assert.doesNotMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|dangerouslySet|\bstyle="/, file);
		assert.doesNotMatch(text, /https?:\/\/(?!www\.w3\.org)/, `${file} names no other host`);
		assert.ok(text.split('\n').length <= 250, `${file} is long`);
	}
	assert.doesNotMatch(readFileSync(join(web, 'index.html'), 'utf8'), /\son\w+=|\sstyle=|<style|<script>/);
});
