/*
 * A guest that prints without end, and a console whose reader sleeps: only the vCPU waits. Needs /dev/kvm.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import type { ConsoleBackend, ConsoleEvents } from "../../src/backends/contract.ts";
import { POSTED_ENTRIES, packageRoot } from "../../src/host/native.ts";
import { Machine } from "../../src/machine/machine.ts";
import { COUNTER, TinyKernels } from "./tiny-kernel.ts";

const kernels = new TinyKernels();
/* Not in the directory for temporary files: the lab shares it with its host, and no FIFO can be there. */
const directory = mkdtempSync("/dev/shm/tsvmm-console-");
afterAll(() => {
	kernels.remove();
	rmSync(directory, { recursive: true });
});

/** mov dx, 0x3f8; mov al, "x"; out dx, al; incl [COUNTER]; jmp back to the out */
const PRINT = [0x66, 0xba, 0xf8, 0x03, 0xb0, 0x78, 0xee, 0xff, 0x05, 0, 0, 0x80, 0x01, 0xeb, 0xf7];

/** Has room until it was told otherwise. */
class Stallable implements ConsoleBackend {
	bytes = 0;
	room = false;
	closed = 0;
	events!: ConsoleEvents;

	start(events: ConsoleEvents): void {
		this.events = events;
	}
	write(bytes: Uint8Array): boolean {
		this.bytes += bytes.length;
		return this.room;
	}
	open(): void {
		this.room = true;
		this.events.writable();
	}
	async close(): Promise<void> {
		this.closed++;
	}
}

async function printing() {
	const console = new Stallable();
	const kernel = kernels.write("", PRINT);
	const machine = await Machine.create({ kernel, memoryMiB: 64, console: { kind: "own", console } });
	const counter = () => machine.memory.u32(COUNTER);
	machine.start();
	/* What was taken, and what fits in the ring; the next one waits in its exit. */
	const stalled = () => expect.poll(() => counter() - console.bytes, { timeout: 180_000 }).toBe(POSTED_ENTRIES);
	await stalled();
	return { machine, console, counter, stalled };
}

test("Machine lets a guest wait whose console has no room, and go on when it has", async () => {
	const { machine, console, counter, stalled } = await printing();
	const at = counter();
	await sleep(50);
	expect([counter(), console.bytes]).toEqual([at, at - POSTED_ENTRIES]);
	console.open();
	await expect.poll(() => console.bytes, { timeout: 180_000 }).toBeGreaterThan(at + POSTED_ENTRIES);
	console.room = false;
	await stalled();
	expect(await machine.stop()).toEqual({ reason: "stopped" });
	expect(console.closed).toBe(1);
});

test("Machine.pause does not wait for a console that has no room, and delivers all that was printed", async () => {
	const { machine, console, counter, stalled } = await printing();
	for (let i = 0; i < 2; i++) {
		await machine.pause();
		/* A byte may be on its way out and not yet counted. */
		expect([0, 1]).toContain(console.bytes - counter());
		machine.resume();
		await stalled();
	}
	await machine.pause();
	await machine.stop();
});

/** A FIFO, open at both ends without blocking, with room for one page: an emulated guest takes long to fill a pipe. */
function fifo(name: string): number {
	const path = join(directory, name);
	execFileSync("mkfifo", [path]);
	const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
	while (!isFull(fd, 4096));
	readSync(fd, Buffer.alloc(4096));
	return fd;
}

/** Nothing more goes into the pipe `fd`; if something does, `bytes` have. */
function isFull(fd: number, bytes = 1): boolean {
	try {
		writeSync(fd, Buffer.alloc(bytes, "?"));
		return false;
	} catch (error) {
		expect(error).toMatchObject({ code: "EAGAIN" });
		return true;
	}
}

test("Machine with a FIFO as its console waits for the reader, and ends without one", async () => {
	const fd = fifo("file");
	const console = { kind: "file", path: join(directory, "file") } as const;
	const machine = await Machine.create({ kernel: kernels.write("", PRINT), memoryMiB: 64, console });
	machine.start();
	await expect.poll(() => isFull(fd), { timeout: 180_000 }).toBe(true);
	const buffer = Buffer.alloc(65_536);
	let printed = 0;
	while (printed < 8192) {
		try {
			printed += buffer.subarray(0, readSync(fd, buffer)).filter((byte) => byte === 0x78).length;
		} catch {
			await sleep(1);
		}
	}
	while (!isFull(fd, 4096));
	await machine.pause();
	machine.resume();
	expect(await machine.stop()).toEqual({ reason: "stopped" });
	closeSync(fd);
});

test.each(["SIGTERM", "SIGINT"] as const)(
	"tsvmm boot into a pipe that nobody reads ends in order by %s",
	async (signal) => {
		const fd = fifo(signal);
		const stdout = openSync(join(directory, signal), constants.O_WRONLY);
		const program = join(packageRoot(), "dist/tsvmm.js");
		const args = ["--", program, "boot", "--kernel", kernels.write("", PRINT), "--memory", "64M"];
		const child = spawn(process.execPath, args, {
			env: { ...process.env, TSVMM_HOST: "direct" },
			stdio: ["ignore", stdout, "pipe"],
		});
		let stderr = "";
		child.stderr?.on("data", (chunk) => {
			stderr += chunk;
		});
		const exit = once(child, "close");
		await expect.poll(() => isFull(fd) || stderr, { timeout: 180_000 }).toBe(true);
		const flags = /flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${stdout}`, "utf8"))![1]!;
		expect(Number.parseInt(flags, 8) & constants.O_NONBLOCK).toBe(0);
		child.kill(signal);
		expect([await exit, stderr]).toEqual([[0, null], "tsvmm: machine stopped\n"]);
		closeSync(stdout);
		closeSync(fd);
	},
);

test("tsvmm boot ends as any program does when the reader of its console has gone", async () => {
	const program = join(packageRoot(), "dist/tsvmm.js");
	const line = `"$0" -- "$1" boot --kernel "$2" --memory 64M | head -c 1000 >/dev/null; echo $PIPESTATUS`;
	const args = ["-c", line, process.execPath, program, kernels.write("", PRINT)];
	const child = spawn("bash", args, {
		env: { ...process.env, TSVMM_HOST: "direct" },
		stdio: ["ignore", "pipe", "pipe"],
	});
	let output = "";
	for (const stream of [child.stdout, child.stderr]) {
		stream.on("data", (chunk) => {
			output += chunk;
		});
	}
	await once(child, "close");
	expect(output).toBe("tsvmm: machine stopped\n141\n");
});
