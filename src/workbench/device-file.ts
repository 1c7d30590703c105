/*
 * A device in a file of the user's. The file's default export is a class, a function that returns a device, or a device:
 *
 *     export default class Reverser implements VirtioDevice { constructor(options: Record<string, string>) { ... } }
 *
 * The options are those of the command line. Types are taken out of the file, and its imports of tsvmm are the modules of
 * this process (host/user-module.ts).
 */
import { readFileSync, realpathSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { explain, UsageError } from "../base/errors.ts";
import { importUserModule, type PackageModules } from "../host/user-module.ts";
import type { VirtioDevice } from "../virtio/device.ts";
import { defectOf } from "./defect.ts";

/** A device on the command line. */
export interface DeviceFileConfig {
	/** The file, as it was written. */
	readonly path: string;
	/** The device's name on the machine; its own name when missing. */
	readonly id?: string | undefined;
	/** False: it is not loaded again when it changes, and an error in it ends the machine. */
	readonly watched: boolean;
	/** What its class is made with. */
	readonly options: Readonly<Record<string, string>>;
}

/** All versions of all files that this process has loaded: a number is used once. */
let versions = 0;

/** One device's file and the files that it imports by a relative path. */
export class DeviceFile {
	readonly config: DeviceFileConfig;
	/** Absolute, without symbolic links. */
	readonly path: string;
	readonly #modules: PackageModules;

	/** @throws UsageError ERR_DEVICE_FILE when there is no such file */
	constructor(config: DeviceFileConfig, modules: PackageModules) {
		this.config = config;
		this.#modules = modules;
		try {
			this.path = realpathSync(config.path);
			if (!statSync(this.path).isFile()) throw new Error("it is no file");
		} catch (cause) {
			throw new UsageError("ERR_DEVICE_FILE", `Cannot load device ${config.path}: ${explain(cause)}`, { cause });
		}
	}

	/** The file, and those that it imports by a relative path, as they are now. */
	get files(): string[] {
		const found = new Set([this.path]);
		for (const file of found) for (const name of importsOf(file)) found.add(name);
		return [...found];
	}

	/**
	 * Loads the file as it is now, and makes the device.
	 *
	 * @throws UsageError ERR_DEVICE_FILE with the place of an error in it, ERR_DEVICE_CONTRACT for what is no device
	 */
	async load(): Promise<VirtioDevice> {
		const { path, config } = this;
		let device: unknown;
		try {
			const module = await importUserModule(path, this.#modules, ++versions);
			device = await make(module.default, config.options);
		} catch (cause) {
			const { what, place, text } = defectOf(cause, this.files);
			const where = place === undefined ? "" : `, at ${place}${text === undefined ? "" : `: ${text}`}`;
			throw new UsageError("ERR_DEVICE_FILE", `Cannot load device ${config.path}: ${what}${where}`, { cause });
		}
		const fault = faultOf(device);
		if (fault === undefined) return device as VirtioDevice;
		throw new UsageError("ERR_DEVICE_CONTRACT", `Cannot use ${config.path} as a device: ${fault}`, {
			hint: "Make one that works: tsvmm device new NAME",
		});
	}
}

async function make(exported: unknown, options: DeviceFileConfig["options"]): Promise<unknown> {
	if (typeof exported !== "function") return exported;
	const isClass = /^class\b/.test(Function.prototype.toString.call(exported));
	return isClass ? Reflect.construct(exported, [options]) : await exported(options);
}

/** What is wrong with a device: the contract is in virtio/device.ts. Undefined: nothing. */
function faultOf(device: unknown): string | undefined {
	if (typeof device !== "object" || device === null) return "it has no default export that is or makes a device";
	const { name, deviceId, features, queueSizes, config, ...rest } = fieldsOf(device);
	if (typeof name !== "string" || name === "") return "its name is no text";
	if (!Number.isInteger(deviceId) || Number(deviceId) < 1 || Number(deviceId) > 0xffff_ffff) {
		return `its deviceId is ${String(deviceId)}, and a number from 1 up is wanted`;
	}
	if (typeof features !== "bigint") return `its features are ${String(features)}, and a bigint such as 0n is wanted`;
	const isSize = (size: unknown) => [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024].includes(Number(size));
	if (!Array.isArray(queueSizes) || queueSizes.length === 0 || !queueSizes.every(isSize)) {
		return `its queueSizes are ${JSON.stringify(queueSizes)}, and a list of powers of two up to 1024 is wanted`;
	}
	if (!(config instanceof Uint8Array)) return "its config is no Uint8Array";
	const missing = ["activate", "notify", "reset", "close"].find((method) => typeof rest[method] !== "function");
	return missing === undefined ? undefined : `it has no method ${missing}`;
}

function fieldsOf(device: object): Record<string, unknown> {
	const names = ["name", "deviceId", "features", "queueSizes", "config", "activate", "notify", "reset", "close"];
	return Object.fromEntries(names.map((name) => [name, Reflect.get(device, name)]));
}

/** The files that a file imports by a relative path, where they are there. */
function importsOf(file: string): string[] {
	let text: string;
	try {
		text = readFileSync(file, "utf8");
	} catch {
		return [];
	}
	const names = [...text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*["'](\.[^"']+)["']/g)].map(([, name]) => name!);
	return names
		.map((name) => resolve(dirname(file), name))
		.filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile());
}
