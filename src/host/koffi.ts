/*
 * The library by which C functions are called. It takes 7 to 30 ms to load, so it is loaded at the first call, and
 * commands without a machine do not pay.
 */
import { createRequire } from "node:module";
import { join } from "node:path";
import { loadAddon } from "./addon.ts";
import { packageRoot } from "./native.ts";

type Koffi = typeof import("koffi");

const require = createRequire(import.meta.url);
let loaded: Koffi | undefined;

export function koffi(): Koffi {
	loaded ??= (loadAddon(koffiPath()) ?? require("koffi")) as Koffi;
	return loaded;
}

/** Where koffi's binary lies in a checkout. koffi's own loader only adds support for older callers. */
function koffiPath(): string {
	const platform = `linux-${process.arch}`;
	return join(packageRoot(), "node_modules/@koromix", `koffi-${platform}`, platform.replace("-", "_"), "koffi.node");
}
