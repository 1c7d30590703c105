/*
 * The few functions with which the page makes and changes its elements. What has not changed is not touched, so that a
 * focus and a selection stay where they are.
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An HTML element.
 *
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {Record<string, string | number | boolean | undefined>} [attributes]
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[Name]}
 */
export function h(name, attributes = {}, ...children) {
	const element = document.createElement(name);
	for (const [key, value] of Object.entries(attributes)) set(element, key, value);
	element.append(...children);
	return element;
}

/**
 * An SVG element.
 *
 * @template {keyof SVGElementTagNameMap} Name
 * @param {Name} name
 * @param {Record<string, string | number | boolean | undefined>} [attributes]
 * @param {(Node | string)[]} children
 * @returns {SVGElementTagNameMap[Name]}
 */
export function svg(name, attributes = {}, ...children) {
	const element = document.createElementNS(SVG, name);
	for (const [key, value] of Object.entries(attributes)) set(element, key, value);
	element.append(...children);
	return element;
}

/**
 * Sets an attribute, or removes it.
 *
 * @param {Element} element
 * @param {string} name
 * @param {string | number | boolean | undefined} value
 */
export function set(element, name, value) {
	if (value === undefined || value === false) element.removeAttribute(name);
	else if (element.getAttribute(name) !== String(value))
		element.setAttribute(name, value === true ? "" : String(value));
}

/**
 * Sets the text of an element.
 *
 * @param {Element} element
 * @param {string} text
 */
export function say(element, text) {
	if (element.textContent !== text) element.textContent = text;
}

/**
 * The element with this id.
 *
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
	const element = document.getElementById(id);
	if (element === null) throw new Error(`the page has no ${id}`);
	return element;
}

/**
 * Gives `parent` one child for each item, in their order. A child stays that of its key.
 *
 * @template Item
 * @param {Element} parent
 * @param {readonly Item[]} items
 * @param {(item: Item) => string} keyOf
 * @param {(item: Item) => Element & { update?: (item: Item) => void }} create
 */
export function sync(parent, items, keyOf, create) {
	/** @type {Map<string, Element & { update?: (item: Item) => void }>} */
	const before = new Map();
	for (const child of parent.children) before.set(child.getAttribute("data-key") ?? "", child);
	let at = parent.firstElementChild;
	for (const item of items) {
		const key = keyOf(item);
		let child = before.get(key);
		before.delete(key);
		if (child === undefined) {
			child = create(item);
			child.setAttribute("data-key", key);
		}
		if (child === at) at = at.nextElementSibling;
		else parent.insertBefore(child, at);
		child.update?.(item);
	}
	for (const child of before.values()) child.remove();
}
