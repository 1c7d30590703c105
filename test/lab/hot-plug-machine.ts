/*
 * A machine that adds and removes devices. hot-plug.test.ts runs this program in the lab. Its arguments are the kernel,
 * the initrd and the guest's script, which reads commands from the serial port. It prints what it saw as JSON.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import { Machine } from "../../src/machine/machine.ts";
import { BlockDevice } from "../../src/virtio/block.ts";
import { ShellConsole } from "./shell-console.ts";

const [kernel, initrd, script] = process.argv.slice(2) as [string, string, string];

const shell = new ShellConsole();

/** Waits until the guest has `count` virtio disks. */
async function disks(count: number): Promise<string> {
	for (let i = 0; i < 100; i++) {
		const names = await shell.sh("ls /sys/block | grep vd | tr '\\n' ' '");
		if (names.trim().split(/\s+/).length === count) return names.trim();
		await sleep(100);
	}
	return await shell.sh("ls /sys/block; dmesg | tail -20");
}

const disk = (name: string) => new BlockDevice(new MemoryDisk(1 << 20), { name, id: name });
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
seen.start = await disks(1);
await shell.sh("dmesg -c >/dev/null");

machine.addDevice("one", disk("one"));
seen.added = await disks(2);
seen.serial = await shell.sh("cat /sys/block/vdb/serial; echo");
seen.io = await shell.sh(
	"yes abc | dd of=/dev/vdb bs=4096 count=16 iflag=fullblock conv=fsync 2>/dev/null; dd if=/dev/vdb bs=4096 count=16 iflag=direct 2>/dev/null | sha256sum; yes abc | head -c 65536 | sha256sum",
);

const removed = machine.removeDevice("one").then(() => "removed");
await sleep(1000);
/* Linux has taken the ACPI device away and left the platform device and its driver alone. */
seen.asked = await disks(2);
seen.acpi = await shell.sh("cat /sys/bus/acpi/devices/LNRO0005:01/status");
seen.waiting = await Promise.race([removed, sleep(200, "waits")]);
await shell.sh("echo LNRO0005:01 >/sys/bus/platform/drivers/virtio-mmio/unbind");
seen.unbound = await Promise.race([removed, sleep(5000, "waits")]);
seen.gone = await disks(1);

machine.addDevice("two", disk("two"));
seen.second = await disks(2);
seen.place = await shell.sh("basename $(readlink -f /sys/block/vdb/device/..)");
/* The kernel's scan of the bus, which has found it, has ended. */
await sleep(1000);
await machine.removeDevice("two", { force: true });
await sleep(500);
seen.forced = await shell.sh("dd if=/dev/zero of=/dev/null count=1 2>/dev/null && echo alive");
seen.complaints = await shell.sh("dmesg | grep -iE 'warn|error|bug|call trace'; true");
seen.ids = machine.deviceIds.join(" ");
process.stdout.write(`${JSON.stringify(seen)}\n`);
