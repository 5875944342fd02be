#!/usr/bin/env node
// vendor: the libraries of the web client, as they stand in web/vendor.
//
//	tests/browser/vendor.mjs            compares web/vendor with web/vendor/HASHES; needs no network
//	tests/browser/vendor.mjs --fetch    fetches each package from npm again, compares it byte by byte
//	tests/browser/vendor.mjs --write    the same, but writes web/vendor and HASHES anew (after a version was changed here)
//
// Files are npm's own, but for the names of modules: browsers want paths where npm has names ("rewrite").
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '../../web/vendor');
const packages = [
	{ name: 'preact', version: '11.2.0', license: 'MIT',
	  files: ['LICENSE', 'dist/preact.mjs', 'hooks/dist/hooks.mjs'] },
	{ name: 'htm', version: '3.1.1', license: 'Apache-2.0', files: ['LICENSE', 'dist/htm.mjs'] },
	{ name: '@preact/signals-core', version: '1.14.5', license: 'MIT', files: ['LICENSE', 'dist/signals-core.mjs'] },
	{ name: '@preact/signals', version: '2.11.4', license: 'MIT', files: ['LICENSE', 'dist/signals.mjs'] },
	{ name: '@xterm/xterm', version: '6.0.0', license: 'MIT', files: ['LICENSE', 'lib/xterm.mjs', 'css/xterm.css'] },
	{ name: '@xterm/addon-fit', version: '0.11.0', license: 'MIT', files: ['LICENSE', 'lib/addon-fit.mjs'] },
	{ name: '@novnc/novnc', version: '1.7.0', license: 'MPL-2.0',
	  files: ['LICENSE.txt', 'AUTHORS', 'docs/LICENSE.MPL-2.0', 'core/', 'vendor/pako/'] },
];
const paths = {
	'preact': 'preact/dist/preact.mjs',
	'preact/hooks': 'preact/hooks/dist/hooks.mjs',
	'@preact/signals-core': '@preact/signals-core/dist/signals-core.mjs',
};

const sha256 = data => createHash('sha256').update(data).digest('hex');

function filesBelow(folder, prefix = '') {
	return readdirSync(join(folder, prefix), { withFileTypes: true }).flatMap(e =>
		e.isDirectory() ? filesBelow(folder, join(prefix, e.name)) : [join(prefix, e.name)]).sort();
}

function rewritten(path, data) {
	if (!path.endsWith('.mjs'))
		return data;
	const depth = '../'.repeat(path.split('/').length - 1);
	const text = data.toString('utf8');
	const out = text.replace(/\b(from|import)"([^".][^"]*)"/g, (all, word, name) =>
		name in paths ? `${word}"${depth}${paths[name]}"` : all);
	return out === text ? data : Buffer.from(out);
}

// -> [{ path, data }] of one package, from npm
function fetched(p, work) {
	const out = execFileSync('npm', ['pack', '--silent', '--json', '--pack-destination', work, `${p.name}@${p.version}`],
		{ encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
	const [{ filename, integrity }] = JSON.parse(out);
	const folder = join(work, p.name);
	mkdirSync(folder, { recursive: true });
	execFileSync('tar', ['-xzf', join(work, filename.replace('@', '').replace('/', '-')), '-C', folder, '--strip-components=1']);
	p.integrity = integrity;
	return p.files.flatMap(f => f.endsWith('/') ? filesBelow(folder, f) : [f])
		.map(f => ({ path: join(p.name, f), data: rewritten(join(p.name, f), readFileSync(join(folder, f))) }));
}

function hashesText(all) {
	const lines = ['# What stands here, for sha256sum -c and tests/browser/vendor.mjs, which made it from npm\'s packages.'];
	for (const p of packages) {
		lines.push(`# npm ${p.name} ${p.version} ${p.license} ${p.integrity}`);
		for (const f of all.filter(f => f.of === p))
			lines.push(`${sha256(f.data)}  ${f.path}`);
	}
	return lines.join('\n') + '\n';
}

function differences() {
	const lines = readFileSync(join(root, 'HASHES'), 'utf8').split('\n').filter(l => l && l[0] !== '#');
	const wanted = new Map(lines.map(l => [l.slice(66), l.slice(0, 64)]));
	const bad = [];
	for (const [path, hash] of wanted)
		if (!existsSync(join(root, path)))
			bad.push(`${path} is missing`);
		else if (sha256(readFileSync(join(root, path))) !== hash)
			bad.push(`${path} is not the file that HASHES names`);
	for (const path of filesBelow(root))
		if (path !== 'HASHES' && !wanted.has(path))
			bad.push(`${path} is not in HASHES`);
	const known = readFileSync(join(root, 'HASHES'), 'utf8');
	for (const p of packages)
		if (!known.includes(`# npm ${p.name} ${p.version} ${p.license} `))
			bad.push(`HASHES has no ${p.name} ${p.version}`);
	return bad;
}

function fetchAll(write) {
	const work = mkdtempSync(join(tmpdir(), 'vendor-'));
	const bad = [];
	try {
		const all = packages.flatMap(p => fetched(p, work).map(f => ({ of: p, ...f })));
		if (write)
			rmSync(root, { recursive: true, force: true });
		for (const f of all) {
			if (write) {
				mkdirSync(dirname(join(root, f.path)), { recursive: true });
				writeFileSync(join(root, f.path), f.data);
			} else if (!existsSync(join(root, f.path)) || !f.data.equals(readFileSync(join(root, f.path)))) {
				bad.push(`${f.path} differs from npm's`);
			}
		}
		const text = hashesText(all);
		if (write)
			writeFileSync(join(root, 'HASHES'), text);
		else if (readFileSync(join(root, 'HASHES'), 'utf8') !== text)
			bad.push('HASHES differs from what npm\'s packages give');
	} finally {
		rmSync(work, { recursive: true, force: true });
	}
	return bad;
}

const how = process.argv[2];
if (how && how !== '--fetch' && how !== '--write') {
	console.error('usage: tests/browser/vendor.mjs [--fetch | --write]');
	process.exit(2);
}
const bad = [...(how ? fetchAll(how === '--write') : []), ...differences()];
for (const b of bad)
	console.error(b);
console.log(bad.length ? `web/vendor: ${bad.length} differences` : 'web/vendor is as HASHES says');
process.exit(bad.length ? 1 : 0);
