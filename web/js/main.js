// main.js: the beginning.
import { html, render } from './lib.js';
import { App } from './frame.js';
import { resumeSession } from './store.js';

render(html`<${App} />`, document.getElementById('app'));
resumeSession();
