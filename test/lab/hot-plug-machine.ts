/*
 * A machine whose devices come and go: bundled by hot-plug.test.ts and run in the lab, with kernel, initrd and the
 * guest's script as arguments. Its guest reads commands from the serial port. Prints what it saw as JSON.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { HostConsole } from "../../src/backends/console.ts";
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import { Machine } from "../../src/machine/machine.ts";
import { BlockDevice } from "../../src/virtio/block.ts";

const [kernel, initrd, script] = process.argv.slice(2) as [string, string, string];

class Shell implements HostConsole {
	text = "";
	#type: (bytes: Uint8Array) => boolean = () => false;
	#count = 0;

	start(type: (bytes: Uint8Array) => boolean): void {
		this.#type = type;
	}
	write(bytes: Uint8Array): boolean {
		this.text += Buffer.from(bytes).toString("latin1").replaceAll("\r", "");
		return true;
	}
	close(): void {
		/* nothing was opened */
	}

	async shows(what: string | RegExp): Promise<void> {
		for (let i = 0; i < 600; i++) {
			if (typeof what === "string" ? this.text.includes(what) : what.test(this.text)) return;
			await sleep(100);
		}
		throw new Error(`the guest has not shown ${what}: ${this.text.slice(-3000)}`);
	}

	async sh(command: string): Promise<string> {
		const mark = ++this.#count;
		const start = this.text.length;
		this.#type(Buffer.from(`${command}; echo "=${mark}=$?="\n`));
		const end = new RegExp(`=${mark}=(\\d+)=\n`);
		await this.shows(end);
		return this.text.slice(start, end.exec(this.text)!.index).trim();
	}

	/** Waits until the guest has as many virtio disks. */
	async disks(count: number): Promise<string> {
		for (let i = 0; i < 100; i++) {
			const names = await this.sh("ls /sys/block | grep vd | tr '\\n' ' '");
			if (names.trim().split(/\s+/).length === count) return names.trim();
			await sleep(100);
		}
		return await this.sh("ls /sys/block; dmesg | tail -20");
	}
}

const disk = (name: string) => new BlockDevice(new MemoryDisk(1 << 20), { name, id: name });
const shell = new Shell();
const seen: Record<string, string> = {};
await using machine = await Machine.create({
	kernel,
	initrd,
	cmdline: "quiet",
	memoryMiB: 128,
	console: { kind: "own", console: shell },
	disks: [{ path: script, readOnly: true, id: "script" }],
});
machine.start();
await shell.shows("=0=0=\n");
seen.start = await shell.disks(1);
await shell.sh("dmesg -c >/dev/null");

machine.addDevice("one", disk("one"));
seen.added = await shell.disks(2);
seen.serial = await shell.sh("cat /sys/block/vdb/serial; echo");
seen.io = await shell.sh(
	"yes abc | dd of=/dev/vdb bs=4096 count=16 iflag=fullblock conv=fsync 2>/dev/null; dd if=/dev/vdb bs=4096 count=16 iflag=direct 2>/dev/null | sha256sum; yes abc | head -c 65536 | sha256sum",
);

const removed = machine.removeDevice("one").then(() => "removed");
await sleep(1000);
/* Linux has taken the ACPI device away and left the platform device and its driver alone. */
seen.asked = await shell.disks(2);
seen.acpi = await shell.sh("cat /sys/bus/acpi/devices/LNRO0005:01/status");
seen.waiting = await Promise.race([removed, sleep(200, "waits")]);
await shell.sh("echo LNRO0005:01 >/sys/bus/platform/drivers/virtio-mmio/unbind");
seen.unbound = await Promise.race([removed, sleep(5000, "waits")]);
seen.gone = await shell.disks(1);

machine.addDevice("two", disk("two"));
seen.second = await shell.disks(2);
seen.place = await shell.sh("basename $(readlink -f /sys/block/vdb/device/..)");
/* The kernel's scan that has found it is at its end. */
await sleep(1000);
await machine.removeDevice("two", { force: true });
await sleep(500);
seen.forced = await shell.sh("dd if=/dev/zero of=/dev/null count=1 2>/dev/null && echo alive");
seen.complaints = await shell.sh("dmesg | grep -iE 'warn|error|bug|call trace'; true");
seen.ids = machine.deviceIds.join(" ");
process.stdout.write(`${JSON.stringify(seen)}\n`);
