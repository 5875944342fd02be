// schema.js: what the host's own API document says of a field: its limits and its words. It is read once.
import { signal } from './lib.js';
import { get } from './api.js';

// null: not read yet; {} when it can't be had: then the host alone checks
const schemas = signal(null);
let reading = false;

export function schemasAreRead() {
	if (!schemas.value && !reading) {
		reading = true;
		get('/openapi.json').then(doc => doc.components.schemas, () => ({})).then(all => {
			schemas.value = all;
			reading = false;
		});
	}
	return Boolean(schemas.value);
}

const whole = s => s?.$ref ? schemas.value?.[s.$ref.split('/').at(-1)] : s;

// fieldOf('VmConfig', ['startup', 'order']) -> { type, minimum, maximum, enum, description, ... }, {} when nothing is told
export function fieldOf(type, path) {
	let field = schemas.value?.[type];
	for (const name of path)
		field = whole(field)?.properties?.[name] ?? whole(field)?.additionalProperties;
	return field ?? {};
}
