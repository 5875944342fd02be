// croft.mjs: a real croftd with a home of its own.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const top = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
export const built = resolve(top, process.env.O || 'build');
export const guest = join(top, 'build/guest');
const SLOW = process.env.SAN ? 5 : 1;		// a sanitizer build may take so much longer

export const pause = ms => new Promise(done => setTimeout(done, ms));

// Calls @what until it gives something true, and gives that.
export async function until(words, seconds, what) {
	const end = Date.now() + seconds * 1000 * SLOW;
	for (let last; ;) {
		try {
			const found = await what();
			if (found)
				return found;
		} catch (error) {
			last = error;
		}
		if (Date.now() > end)
			throw new Error(`${words}: not within ${seconds * SLOW} s${last ? ` (${last.message})` : ''}`);
		await pause(50);
	}
}

export class Croft {
	constructor() {
		this.home = mkdtempSync(join(tmpdir(), 'croft-browser-'));
		this.output = '';
		this.password = '';
		this.port = 0;
		this.afterwards = [];		// what to do before the home is removed
	}

	async start() {
		this.process = spawn(join(built, 'croftd'), ['--home', join(this.home, 'h'), '--listen', `127.0.0.1:${this.port}`],
			{ cwd: this.home, stdio: ['ignore', 'pipe', 'pipe'] });
		this.ended = new Promise(done => this.process.on('exit', done));
		for (const stream of [this.process.stdout, this.process.stderr])
			stream.on('data', data => { this.output += data; });
		const from = this.output.length;
		await until('croftd serves', 30, () => {
			const said = this.output.slice(from);
			if (this.process.exitCode !== null)
				throw new Error(`croftd ended: ${said}`);
			return /serves https:\S+/.test(said);
		});
		this.port = Number(/serves https:\/\/[^ ]*:(\d+)/.exec(this.output.slice(from))[1]);
		this.password ||= /with the password (\S+)/.exec(this.output)?.[1] ?? '';
		this.url = `https://127.0.0.1:${this.port}/`;
	}

	kill() {
		this.process.kill('SIGKILL');
		return this.ended;
	}

	// Ends croftd and its VMs.
	async stop() {
		const end = spawn(join(built, 'croftd'), ['--home', join(this.home, 'h'), '--stop'], { cwd: this.home, stdio: 'ignore' });
		const code = await new Promise(done => end.on('exit', done));
		if (this.process.exitCode === null && this.process.signalCode === null)
			this.process.kill('SIGTERM');
		await this.ended;
		for (const fn of this.afterwards)
			fn();
		rmSync(this.home, { recursive: true, force: true });
		return code;
	}

	// A request of the tests themselves, beside the browser. -> { status, body }
	api(method, path, body, headers = {}) {
		return new Promise((done, failed) => {
			const bytes = body === undefined || Buffer.isBuffer(body);
			const data = bytes ? body : JSON.stringify(body);
			const type = bytes ? 'application/octet-stream' : method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
			const req = request(`${this.url}api/v1${path}`, { method, rejectUnauthorized: false, headers: {
				...(this.cookie && { Cookie: this.cookie, Origin: this.url.slice(0, -1) }),
				...(data !== undefined && { 'Content-Type': type, 'Content-Length': Buffer.byteLength(data) }), ...headers } }, answer => {
				let text = '';
				answer.setEncoding('utf8');
				answer.on('data', d => { text += d; });
				answer.on('end', () => done({ status: answer.statusCode, headers: answer.headers, body: text ? JSON.parse(text) : null }));
			});
			req.on('error', failed);
			req.end(data);
		});
	}

	async ok(method, path, body, headers) {
		const answer = await this.api(method, path, body, headers);
		if (answer.status >= 300)
			throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
		return answer.body;
	}

	async logIn() {
		const answer = await this.api('POST', '/session', { name: 'admin', password: this.password });
		this.cookie = answer.headers['set-cookie'][0].split(';')[0];
	}
}

export const hasGuest = () => existsSync(join(guest, 'vmlinuz')) && existsSync(join(guest, 'initrd.gz'));
