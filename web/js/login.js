// login.js: the first page.
import { html, useEffect, useRef, useState } from './lib.js';
import { Mark } from './icons.js';
import { Field, ProblemNote } from './form.js';
import { expired, logIn } from './store.js';

export function LoginPage() {
	const [busy, setBusy] = useState(false);
	const [problem, setProblem] = useState(null);
	const name = useRef(), password = useRef();

	useEffect(() => {
		document.title = 'Log in – Croft';
		name.current.focus();
	}, []);

	const submit = async e => {
		e.preventDefault();
		setBusy(true);
		setProblem(null);
		try {
			await logIn(name.current.value, password.current.value);
		} catch (why) {
			setProblem(why);
			setBusy(false);
			password.current.select();
			password.current.focus();
		}
	};
	return html`<main class="login">
		<form onSubmit=${submit} aria-busy=${busy}>
			<h1><${Mark} />Croft</h1>
			<p class="host">${location.host}</p>
			${expired.value && !problem && html`<p class="note">${expired.value}</p>`}
			${problem && html`<${ProblemNote} problem=${problem} />`}
			<${Field} label="User name"><input ref=${name} name="name" autocomplete="username" autocapitalize="off" spellcheck=${false} required /><//>
			<${Field} label="Password"><input ref=${password} name="password" type="password" autocomplete="current-password" required /><//>
			<button class="primary full" disabled=${busy}>${busy ? 'Logging in' : 'Log in'}</button>
		</form>
	</main>`;
}
