/*
 * A machine whose guest writes to a disk and reads it back, and copies files in a directory of the host by tar, while it is
 * saved and restored again and again, each time as another machine. snapshot.test.ts runs this program in the lab. Its arguments are the kernel, the initrd and the guest's
 * script. It prints what it saw as JSON.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import type { RestoreConfig } from "../../src/machine/config.ts";
import { Machine } from "../../src/machine/machine.ts";
import { readManifest } from "../../src/snapshot/manifest.ts";
import { mergeSnapshot } from "../../src/snapshot/write.ts";
import { ShellConsole } from "./shell-console.ts";

const [kernel, initrd, script] = process.argv.slice(2) as [string, string, string];
const BYTES = 1 << 20;
const HOPS = 6;
const FILES = 40;
/** Writes other data in each round, and reads them back without the page cache; all the time it has a log file open. */
const WORK = [
	"wrong=0; exec 9>>/mnt/log",
	"for round in 1 2 3; do echo round $round >&9; mkdir /mnt/out$round",
	"tar -cf - -C /mnt tree | tar -xf - -C /mnt/out$round || wrong=$((wrong+1)); yes round $round | dd of=/tmp/wanted bs=64k count=16 iflag=fullblock 2>/dev/null",
	"dd if=/tmp/wanted of=/dev/vdb bs=16k oflag=direct 2>/dev/null",
	"dd if=/dev/vdb bs=4k iflag=direct 2>/dev/null | cmp - /tmp/wanted || wrong=$((wrong+1))",
	"done",
	"echo $wrong",
].join(";");

const directory = mkdtempSync(join(tmpdir(), "snapshots-"));
/** The guest's /mnt. */
const shared = mkdtempSync("/dev/shm/share-");
mkdirSync(join(shared, "tree"));
for (let i = 0; i < FILES; i++) writeFileSync(join(shared, "tree", `${i}`), randomBytes(30_000));
const shell = new ShellConsole();
const disk = new MemoryDisk(BYTES);

/** The disk outlives its machines. */
function host(): RestoreConfig {
	const kept = new Proxy(disk, {
		get: (target, name) => {
			if (name === "close") return async () => undefined;
			const value: unknown = Reflect.get(target, name, target);
			return typeof value === "function" ? value.bind(target) : value;
		},
	});
	return {
		console: { kind: "own", console: shell },
		disks: [{ path: script, readOnly: true, id: "script" }, { backend: kept }],
		rng: true,
		vsock: {},
		fs: [{ tag: "share", path: shared }],
	};
}

/** A digest of all files in a directory. */
function digestOf(path: string): string {
	const hash = createHash("sha256");
	for (const name of readdirSync(path).sort()) hash.update(`${name}\0`).update(readFileSync(join(path, name)));
	return hash.digest("hex");
}

let machine = await Machine.create({ ...host(), kernel, initrd, cmdline: "quiet", memoryMiB: 128, cpus: 2 });
machine.start();
await shell.shows("=0=0=\n");
await shell.sh("mount -t virtiofs share /mnt; dmesg -c >/dev/null");

let rounds = 0;
let last: string | undefined;
let working = true;
const work = shell.sh(WORK).finally(() => {
	working = false;
});
while (working && rounds < HOPS) {
	const path = join(directory, `${rounds++}`);
	await machine.pause();
	/* The first one has all of its memory, the others what differs from the one before. */
	await machine.snapshot(path, { base: last });
	last = path;
	await machine.stop();
	machine = await Machine.restore(path, host());
	machine.start();
	await sleep(500 + Math.random() * 1500);
}
const wrong = await work;
const guest = await shell.sh("dd if=/dev/vdb bs=64k iflag=direct 2>/dev/null | sha256sum | cut -c1-64");
const host256 = createHash("sha256").update(disk.bytes).digest("hex");
const random = await shell.sh("dd if=/dev/hwrng bs=4096 count=1 iflag=fullblock 2>/dev/null | wc -c");
const clock = await shell.sh("a=$(date +%s); sleep 1; b=$(date +%s); echo $((b - a))");
const cpus = await shell.sh("grep -c ^processor /proc/cpuinfo");
/* All of them as one. */
const [chained, merged] = [join(directory, "chained"), join(directory, "merged")];
await machine.pause();
await machine.snapshot(chained, { base: last });
await machine.stop();
await mergeSnapshot(chained, merged);
const { usedBytes } = (await readManifest(chained)).memory;
const share = usedBytes / (await readManifest(merged)).memory.usedBytes;
machine = await Machine.restore(merged, host());
machine.start();
const complaints = await shell.sh("dmesg | grep -iE 'warn|error|bug|call trace|unstable|lockup'; true");
await machine.stop();
const tree = digestOf(join(shared, "tree"));
const copies = [1, 2, 3].filter((round) => digestOf(join(shared, `out${round}`, "tree")) === tree).length;
const log = readFileSync(join(shared, "log"), "utf8");
for (const path of [directory, shared]) rmSync(path, { recursive: true });
const seen = {
	rounds: `${rounds}`,
	isSmall: `${share < 0.5}`,
	wrong,
	guest,
	host: host256,
	random,
	clock,
	cpus,
	complaints,
	copies: `${copies}`,
	log,
};
process.stdout.write(`${JSON.stringify(seen)}\n`);
