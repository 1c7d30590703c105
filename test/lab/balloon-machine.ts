/*
 * Machines with a balloon: one gives memory back when it is asked, the other by itself. balloon.test.ts runs this program in
 * the lab. Its arguments are the kernel, the initrd and the guest's script. It prints what it saw as JSON: MiB that this
 * process has in RAM.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { RestoreConfig } from "../../src/machine/config.ts";
import { Machine } from "../../src/machine/machine.ts";
import type { BalloonConfig } from "../../src/virtio/balloon-config.ts";
import { ShellConsole } from "./shell-console.ts";

const [kernel, initrd, script] = process.argv.slice(2) as [string, string, string];
const MIB = 1 << 20;
/** Fills 200 MiB of memory and frees them. */
const USE = "dd if=/dev/zero of=/tmp/big bs=1M count=200 2>/dev/null; rm /tmp/big; echo 3 >/proc/sys/vm/drop_caches";
const residentMiB = () => Math.round(process.memoryUsage.rss() / MIB);

function host(shell: ShellConsole, balloon: BalloonConfig): RestoreConfig {
	return {
		console: { kind: "own", console: shell },
		disks: [{ path: script, readOnly: true, id: "script" }],
		balloon,
	};
}

async function boot(balloon: BalloonConfig) {
	const shell = new ShellConsole();
	const machine = await Machine.create({ ...host(shell, balloon), kernel, initrd, cmdline: "quiet", memoryMiB: 384 });
	machine.start();
	await shell.shows("=0=0=\n");
	await shell.sh("dmesg -c >/dev/null");
	return { machine, shell };
}

/** Waits until it is so, for a minute at most. */
async function until(is: () => boolean): Promise<void> {
	for (let i = 0; i < 600 && !is(); i++) await sleep(100);
}

async function asked() {
	const { machine, shell } = await boot({ reporting: false });
	const balloon = machine.balloon!;
	await shell.sh(USE);
	const freed = residentMiB();
	balloon.setTarget(250);
	await until(() => balloon.actualMiB === 250);
	const given = residentMiB();
	const low = await balloon.statistics(30_000);
	/* The guest needs more than it has: its driver takes pages back before its kernel ends a process. */
	let least = balloon.actualMiB;
	const watch = setInterval(() => {
		least = Math.min(least, balloon.actualMiB);
	}, 20);
	await shell.sh(USE);
	clearInterval(watch);
	balloon.setTarget(0);
	await until(() => balloon.actualMiB === 0);
	const high = await balloon.statistics(30_000);
	await shell.sh(USE);
	const again = residentMiB();
	const complaints = await shell.sh("dmesg | grep -iE 'warn|error|bug|call trace|out of memory'; true");
	await machine.stop();
	const freeMiB = [low, high].map((statistics) => Math.round((statistics?.freeBytes ?? 0) / MIB));
	return { freed, given, again, least, freeMiB, complaints };
}

async function byItself(directory: string) {
	const { machine, shell } = await boot({});
	const before = residentMiB();
	let used = before;
	const watch = setInterval(() => {
		used = Math.max(used, residentMiB());
	}, 50);
	await shell.sh(USE);
	clearInterval(watch);
	await until(() => residentMiB() < before + 60);
	const reported = residentMiB();
	machine.balloon!.setTarget(50);
	await until(() => machine.balloon!.actualMiB === 50);
	await machine.snapshot(directory);
	await machine.stop();
	const clone = new ShellConsole();
	const restored = await Machine.restore(directory, host(clone, {}));
	restored.start();
	const kept = restored.balloon!.actualMiB;
	const fresh = residentMiB();
	await clone.sh(USE);
	await until(() => residentMiB() < fresh + 60);
	const cloned = residentMiB() - fresh;
	restored.balloon!.setTarget(0);
	await until(() => restored.balloon!.actualMiB === 0);
	const complaints = await clone.sh("dmesg | grep -iE 'warn|error|bug|call trace|out of memory'; true");
	const left = restored.balloon!.actualMiB;
	await restored.stop();
	return { before, used, reported, kept, cloned, left, complaints };
}

const directory = mkdtempSync(join(tmpdir(), "balloon-"));
try {
	process.stdout.write(
		`${JSON.stringify({ asked: await asked(), byItself: await byItself(join(directory, "snapshot")) })}\n`,
	);
} finally {
	rmSync(directory, { recursive: true });
}
