/*
 * The devices of users' files on a machine that runs. A file is loaded again when it, or one that it imports, has changed,
 * and the new device takes the place of the old one while the guest runs on:
 *
 *     same shape (type, features, queues, config) -> Machine.replaceDevice: the driver goes on with its requests
 *     another shape                               -> removed and added: the guest finds a new device
 *     the file has an error                       -> the old device goes on
 */
import { statSync } from "node:fs";
import type { PackageModules } from "../host/user-module.ts";
import type { Machine } from "../machine/machine.ts";
import { defectOf, defectText, shown } from "./defect.ts";
import { DeviceFile, type DeviceFileConfig } from "./device-file.ts";
import { FileDevice } from "./file-device.ts";

/** Tells the user: what has gone wrong, and what was done when all is well. */
export interface Report {
	error(text: string): void;
	note(text: string): void;
}

/** How often files are looked at. A file has to be the same twice: an editor may be writing it. */
const LOOK_MS = 200;

interface Live {
	readonly file: DeviceFile;
	device: FileDevice;
	/** What the files were when they were loaded. */
	loaded: string;
	/** What they were when looked at last. */
	seen: string;
}

/** The devices of the files of one command line. */
export class LiveDevices {
	readonly #live: Live[] = [];
	readonly #report: Report;
	#timer: NodeJS.Timeout | undefined;
	#loading: Promise<void> | undefined;
	readonly #onUncaught = (error: unknown) => this.#uncaught(error);

	private constructor(report: Report) {
		this.#report = report;
	}

	/**
	 * Loads all files. The devices are given to a machine, which closes them; then call `follow`.
	 *
	 * @throws UsageError ERR_DEVICE_FILE, ERR_DEVICE_CONTRACT; then no device is left
	 */
	static async load(
		configs: readonly DeviceFileConfig[],
		modules: PackageModules,
		report: Report,
	): Promise<LiveDevices> {
		const live = new LiveDevices(report);
		try {
			for (const config of configs) await live.#add(new DeviceFile(config, modules));
		} catch (error) {
			await live.close();
			throw error;
		}
		return live;
	}

	/** For a machine's configuration. */
	get devices(): FileDevice[] {
		return this.#live.map(({ device }) => device);
	}

	/** All files. */
	get files(): string[] {
		return [...new Set(this.#live.flatMap(({ file }) => file.files))];
	}

	/** Follows the changes of the files until the machine has ended. */
	follow(machine: Machine): void {
		process.once("uncaughtExceptionMonitor", this.#onUncaught);
		this.#timer = setInterval(() => {
			this.#loading ??= this.#look(machine).finally(() => {
				this.#loading = undefined;
			});
		}, LOOK_MS);
		void machine.ended.then(() => this.#stop());
	}

	/** Closes devices that no machine has. */
	async close(): Promise<void> {
		this.#stop();
		await this.#loading;
		for (const { device } of this.#live) await device.close();
	}

	#stop(): void {
		clearInterval(this.#timer);
		process.off("uncaughtExceptionMonitor", this.#onUncaught);
	}

	async #add(file: DeviceFile): Promise<void> {
		const signature = signatureOf(file);
		const device = this.#wrap(file, await file.load());
		this.#live.push({ file, device, loaded: signature, seen: signature });
	}

	#wrap(file: DeviceFile, device: FileDevice["device"]): FileDevice {
		const made: FileDevice = new FileDevice(device, file.config.id, (error, method) => {
			const { watched } = file.config;
			const after = watched
				? "The device stands still and its request waits; the guest runs on. Change the file to let it go on"
				: "The machine ends";
			const text = defectText(defectOf(error, file.files));
			this.#report.error(`device ${made.name}: error in ${method}: ${text}\n  ${after}`);
			if (!watched) throw error;
		});
		return made;
	}

	async #look(machine: Machine): Promise<void> {
		for (const live of this.#live) {
			if (!live.file.config.watched) continue;
			const now = signatureOf(live.file);
			const settled = now === live.seen;
			live.seen = now;
			if (!settled || now === live.loaded) continue;
			live.loaded = now;
			await this.#reload(live, machine);
		}
	}

	async #reload(live: Live, machine: Machine): Promise<void> {
		const { file, device: before } = live;
		const say = (what: string) => this.#report.note(`device ${before.name}: ${shown(file.path)} ${what}`);
		try {
			const after = this.#wrap(file, await file.load());
			const how = await this.#exchange(machine, before, after, file);
			live.device = how.device;
			say(`was loaded again; ${how.what}`);
		} catch (error) {
			if (machine.state === "ended") return;
			const { message } = error as Error;
			const rest = before.failed ? "The old device stands still" : "The old device goes on";
			this.#report.error(`device ${before.name}: ${message}\n  ${rest}`);
		}
	}

	async #exchange(
		machine: Machine,
		before: FileDevice,
		after: FileDevice,
		file: DeviceFile,
	): Promise<{ device: FileDevice; what: string }> {
		const id = before.name;
		const different = differenceOf(before, after);
		if (different === undefined) {
			const undo = after.takeOverFrom(before);
			try {
				await machine.replaceDevice(id, after);
				const state = after.keepsStateOf(before) ? "with the state of the old one" : "and begins anew";
				return { device: after, what: `the new device serves the driver's queues, ${state}` };
			} catch (error) {
				undo();
				if (machine.state === "ended") throw error;
				this.#report.error(`device ${id}: it cannot take over from the old one: ${(error as Error).message}`);
			}
		}
		/* It may have been used above. */
		await after.close();
		const fresh = this.#wrap(file, await file.load());
		try {
			if (machine.deviceIds.includes(id)) await machine.removeDevice(id, { force: true });
			machine.addDevice(id, fresh);
		} catch (error) {
			await fresh.close();
			throw error;
		}
		const why = different === undefined ? "" : `its ${different} differ, so `;
		return { device: fresh, what: `${why}the old device was removed, and the guest is told of a new one` };
	}

	/** An exception outside of the machine ends the process. It says where it came from. */
	#uncaught(error: unknown): void {
		for (const { file, device } of this.#live) {
			const { place, ...defect } = defectOf(error, file.files);
			if (place === undefined) continue;
			const after = "The process ends. The `enter` of its activation runs timers and events of a device in the machine";
			this.#report.error(`device ${device.name}: uncaught error: ${defectText({ ...defect, place })}\n  ${after}`);
		}
	}
}

/** What a driver would notice of the exchange; undefined when nothing. */
function differenceOf(before: FileDevice, after: FileDevice): string | undefined {
	if (before.deviceId !== after.deviceId) return "device types";
	if (before.features !== after.features) return "features";
	if (before.queueSizes.join() !== after.queueSizes.join()) return "queue sizes";
	return before.config.length === after.config.length ? undefined : "config sizes";
}

/** Changes when a file does. */
function signatureOf(file: DeviceFile): string {
	const parts = file.files.map((path) => {
		const status = statSync(path, { throwIfNoEntry: false });
		return `${path} ${status?.ino} ${status?.size} ${status?.mtimeMs}`;
	});
	return parts.join("\n");
}
