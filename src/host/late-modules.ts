/*
 * Modules of Node that are loaded when something of them is used, not when a bundle names them. Each of these takes one to
 * five milliseconds, and few commands need them all.
 */

type Require = (name: string) => unknown;

const LATE: ReadonlySet<string> = new Set([
	"node:child_process",
	"node:crypto",
	"node:dgram",
	"node:dns",
	"node:dns/promises",
	"node:fs/promises",
	"node:http",
	"node:https",
	"node:module",
	"node:net",
	"node:readline",
	"node:readline/promises",
	"node:stream",
	"node:stream/consumers",
	"node:stream/promises",
	"node:tls",
	"node:tty",
	"node:v8",
	"node:zlib",
]);

/** A `require` whose modules of Node may be loaded late. */
export function requireLate(require: Require): Require {
	const known = new Map<string, unknown>();
	return (name) => {
		if (!LATE.has(name)) return require(name);
		let module = known.get(name);
		if (module === undefined) {
			module = late(() => require(name) as object);
			known.set(name, module);
		}
		return module;
	};
}

function late(require: () => object): object {
	let loaded: object | undefined;
	const load = () => {
		loaded ??= require();
		return loaded;
	};
	return new Proxy(
		{},
		{
			get: (_, key) => Reflect.get(load(), key),
			has: (_, key) => Reflect.has(load(), key),
			ownKeys: () => Reflect.ownKeys(load()),
			getOwnPropertyDescriptor: (_, key) => {
				const found = Reflect.getOwnPropertyDescriptor(load(), key);
				return found && { ...found, configurable: true };
			},
		},
	);
}
