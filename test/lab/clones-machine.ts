/*
 * Two machines that are made of one snapshot and run at the same time. No agent tells their guests that they are clones:
 * the generation ID does. snapshot.test.ts runs this program in the lab. Its arguments are the kernel, the initrd and the
 * guest's script. It prints what they saw as JSON.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Machine } from "../../src/machine/machine.ts";
import { ShellConsole } from "./shell-console.ts";

const [kernel, initrd, script] = process.argv.slice(2) as [string, string, string];
/** Waits until the kernel has made new keys. */
const RENEWED = "for i in $(seq 100); do dmesg | grep -q 'virtual machine fork' && break; sleep 0.1; done";
/** A word for each kind of random number. */
const RANDOM = [
	"head -c 32 /dev/urandom | sha256sum | cut -c1-64",
	"cat /proc/sys/kernel/random/uuid",
	"mktemp -u",
].join(";");

function host(shell: ShellConsole) {
	return { console: { kind: "own", console: shell } as const, disks: [{ path: script, readOnly: true, id: "script" }] };
}

const directory = mkdtempSync(join(tmpdir(), "clones-"));
const first = new ShellConsole();
const machine = await Machine.create({ ...host(first), kernel, initrd, cmdline: "quiet", memoryMiB: 128 });
machine.start();
await first.shows("=0=0=\n");
const boot = await first.sh("dmesg | grep -c 'virtual machine fork'; dmesg -c >/dev/null");
await machine.snapshot(join(directory, "snapshot"));

async function clone() {
	const shell = new ShellConsole();
	const made = await Machine.restore(join(directory, "snapshot"), host(shell));
	made.start();
	const random = await shell.sh(`${RENEWED}; ${RANDOM}`);
	const told = await shell.sh("dmesg | grep -c 'crng reseeded due to virtual machine fork'");
	const complaints = await shell.sh("dmesg | grep -iE 'warn|error|bug|call trace'; true");
	await made.stop();
	return { random, told, complaints };
}

const clones = await Promise.all([clone(), clone()]);
/* The one that was saved goes on, and is no clone. */
const original = await first.sh(RANDOM);
const again = await first.sh("dmesg | grep -c 'virtual machine fork'");
await machine.stop();
rmSync(directory, { recursive: true });
const seen = {
	boot,
	original,
	again,
	random: clones.map(({ random }) => random).join("\n"),
	told: clones.map(({ told }) => told).join(),
	complaints: clones.map(({ complaints }) => complaints).join(""),
};
process.stdout.write(`${JSON.stringify(seen)}\n`);
