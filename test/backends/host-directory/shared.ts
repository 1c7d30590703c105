/*
 * A directory of this machine, shared with a fake guest: what the guest does, and what the host sees of it.
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HostDirectory, type HostDirectoryOptions } from "../../../src/backends/host-directory/host-directory.ts";
import { GuestRam } from "../../../src/host/ram.ts";
import type { CacheMode } from "../../../src/virtio/fs/cache-policy.ts";
import { FsDevice } from "../../../src/virtio/fs/device.ts";
import { FakeRam } from "../../driver/fake-ram.ts";
import { FuseDriver } from "../../virtio/fs/fuse-driver.ts";

const RAM_BYTES = 64 << 20;

export class Shared implements AsyncDisposable {
	/** Of the host; the share is the directory "share" in it, and what lies beside it must stay out of reach. */
	readonly outside: string;
	readonly path: string;
	readonly directory: HostDirectory;
	readonly device: FsDevice;
	readonly guest: FuseDriver;
	readonly #ram: GuestRam;
	readonly #descriptors: number;

	private constructor(
		outside: string,
		parts: { directory: HostDirectory; device: FsDevice; guest: FuseDriver; ram: GuestRam; descriptors: number },
	) {
		this.outside = outside;
		this.path = join(outside, "share");
		this.directory = parts.directory;
		this.device = parts.device;
		this.guest = parts.guest;
		this.#ram = parts.ram;
		this.#descriptors = parts.descriptors;
	}

	static async make(
		options: HostDirectoryOptions = {},
		cache: CacheMode = "auto",
		outside = mkdtempSync(join(tmpdir(), "host-directory-")),
	): Promise<Shared> {
		mkdirSync(join(outside, "share"), { recursive: true });
		/* What is loaded once has its descriptors before they are counted. */
		await (await HostDirectory.open(join(outside, "share"))).close();
		const descriptors = openDescriptors();
		const directory = await HostDirectory.open(join(outside, "share"), options);
		const device = new FsDevice("share", directory, { cache });
		const ram = GuestRam.map([{ gpa: 0, sizeBytes: RAM_BYTES }]);
		const guest = await FuseDriver.mount(device, { ram: new FakeRam([[0, RAM_BYTES]], () => ram.regions[0]!) });
		return new Shared(outside, { directory, device, guest, ram, descriptors });
	}

	/** @throws Error when descriptors are left open */
	async [Symbol.asyncDispose](): Promise<void> {
		await this.device.close();
		this.#ram.close();
		rmSync(this.outside, { recursive: true, force: true });
		for (let i = 0; openDescriptors() > this.#descriptors; i++) {
			if (i === 200) throw new Error(`${openDescriptors() - this.#descriptors} descriptors are left open`);
			await new Promise((resolve) => setTimeout(resolve, 10));
		}
	}
}

function openDescriptors(): number {
	return readdirSync("/proc/self/fd").length;
}
