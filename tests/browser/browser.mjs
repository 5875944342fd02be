// browser.mjs: Debian's Chromium, watched: whatever it complains about fails the test.
import { chromium } from 'playwright-core';

const ARGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
	      '--disable-component-update', '--disable-sync'];

export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', headless: true, args: ARGS });

// A browser with its own cookies. complaints: console errors and warnings, CSP reports, uncaught errors, failed requests
// and answers of 400 and more, each as a line; allow(pattern) takes those away that a test brings about on purpose.
export class Visitor {
	static async come(browser, croft, options = {}) {
		const v = new Visitor();
		v.croft = croft;
		v.complaints = [];
		v.allowed = [/willReadFrequently/];	// Chromium's advice to those who read a canvas: noVNC, and a test
		v.context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1280, height: 800 }, locale: 'en-GB', ...options });
		v.context.setDefaultTimeout(20_000 * (process.env.SAN ? 5 : 1));
		await v.context.addInitScript(() => {
			addEventListener('securitypolicyviolation', e =>
				console.error(`CSP: ${e.violatedDirective} blocked ${e.blockedURI} in ${e.sourceFile}:${e.lineNumber}`));
		});
		v.context.on('page', page => v.watch(page));
		v.page = await v.context.newPage();
		return v;
	}

	watch(page) {
		const note = line => this.complaints.push(line);
		page.on('console', m => ['error', 'warning'].includes(m.type()) && note(`console ${m.type()}: ${m.text()} (${m.location().url})`));
		page.on('pageerror', e => note(`uncaught: ${e.stack}`));
		page.on('requestfailed', r => r.failure()?.errorText === 'net::ERR_ABORTED' ||	// the page itself let it go
			note(`failed request: ${r.method()} ${r.url()}: ${r.failure()?.errorText}`));
		page.on('response', r => r.status() >= 400 && note(`answer ${r.status()}: ${r.request().method()} ${r.url()}`));
	}

	allow(...patterns) {
		this.allowed.push(...patterns);
	}

	unexpected() {
		return this.complaints.filter(line => !this.allowed.some(pattern => pattern.test(line)));
	}

	open(path = '') {
		return this.page.goto(this.croft.url + path);
	}

	async logIn(name = 'admin', password = this.croft.password) {
		await this.open();
		await this.page.getByLabel('User name').fill(name);
		await this.page.getByLabel('Password').fill(password);
		await this.page.getByRole('button', { name: 'Log in' }).click();
		await this.page.getByText('Live').waitFor();
	}

	leave() {
		return this.context.close();
	}
}
