// lib.js: the libraries that components are written with, under one name.
import { h } from '../vendor/preact/dist/preact.mjs';
import htm from '../vendor/htm/dist/htm.mjs';

export { render, cloneElement, Fragment } from '../vendor/preact/dist/preact.mjs';
export { useState, useEffect, useLayoutEffect, useRef, useMemo } from '../vendor/preact/hooks/dist/hooks.mjs';
export { signal, computed, effect, batch, useComputed, useSignal } from '../vendor/@preact/signals/dist/signals.mjs';

// Data come into it as text nodes and properties only: there is no way to write markup with them.
export const html = htm.bind(h);
