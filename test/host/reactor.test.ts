/*
 * Host events entering JavaScript: eventfds, readiness of a pipe, and gathered reads and writes.
 */
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { EventFd } from "../../src/host/eventfd.ts";
import { native, packageRoot } from "../../src/host/native.ts";
import { GuestRam } from "../../src/host/ram.ts";
import { READABLE, WRITABLE, watch } from "../../src/host/reactor.ts";

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until `condition` holds, 4 s at most. */
async function until(condition: () => boolean): Promise<void> {
	const deadline = performance.now() + 4000;
	while (!condition() && performance.now() < deadline) await pause(1);
	expect(condition()).toBe(true);
}

describe("EventFd", () => {
	it("watch calls back for a signal, once for many before it, and not after close", async () => {
		const event = new EventFd();
		let calls = 0;
		event.watch(() => calls++);
		event.signal();
		event.signal();
		await until(() => calls > 0);
		await pause(5);
		expect(calls).toBe(1);
		event.signal();
		await until(() => calls === 2);
		event.signal();
		event.close();
		event.close();
		event.signal();
		await pause(5);
		expect(calls).toBe(2);
	});

	it("watch may be closed from inside its own call", async () => {
		const event = new EventFd();
		await new Promise<void>((resolve) => {
			event.watch(() => {
				event.close();
				resolve();
			});
			event.signal();
		});
	});
});

describe("watch", () => {
	it("tells when an fd is readable or writable, as asked for", async () => {
		const event = new EventFd();
		const seen: number[] = [];
		const watching = watch(event.fd, WRITABLE, (ready) => {
			seen.push(ready);
			watching.set(READABLE);
		});
		await until(() => seen.length === 1);
		await pause(5);
		expect(seen).toEqual([WRITABLE]);
		event.signal();
		await until(() => seen.length >= 2);
		expect(seen[1]).toBe(READABLE);
		watching.set(0);
		const calls = seen.length;
		await pause(5);
		expect(seen.length).toBe(calls);
		watching.close();
		watching.close();
		event.close();
	});

	it("refuses a regular file by errno", () => {
		const directory = mkdtempSync(join(tmpdir(), "tsvmm-watch-"));
		const fd = openSync(join(directory, "file"), "w");
		expect(() => watch(fd, READABLE, () => undefined)).toThrow(expect.objectContaining({ code: "EPERM" }));
		closeSync(fd);
		rmSync(directory, { recursive: true });
	});

	it("keeps the process alive only when told to, and teardown with everything open is clean", () => {
		const script = `
			import { EventFd } from "./src/host/eventfd.ts";
			import { IoRing } from "./src/host/io-ring.ts";
			import { RunLoop } from "./src/host/run-loop.ts";
			new EventFd().watch(() => {});
			new IoRing(() => {});
			new IoRing(() => {}, { forceThreads: true });
			new RunLoop(2, { onExit: () => true, onPosted() {}, onFailed() {} });
		`;
		const ended = spawnSync(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script], {
			cwd: packageRoot(),
			encoding: "utf8",
			timeout: 20_000,
		});
		expect({ status: ended.status, signal: ended.signal, stderr: ended.stderr }).toEqual({
			status: 0,
			signal: null,
			stderr: "",
		});
	});

	it("an exception in a callback is an uncaught exception, not lost", () => {
		const script = `
			import { EventFd } from "./src/host/eventfd.ts";
			const event = new EventFd();
			const alive = setTimeout(() => undefined, 10_000);
			process.on("uncaughtException", (error) => {
				console.log("caught", error.message);
				event.close();
				clearTimeout(alive);
			});
			event.watch(() => { throw new Error("from a callback"); });
			event.signal();
		`;
		const ended = spawnSync(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script], {
			cwd: packageRoot(),
			encoding: "utf8",
			timeout: 20_000,
		});
		expect(ended.stdout).toBe("caught from a callback\n");
		expect(ended.status).toBe(0);
	});
});

describe("readv and writev", () => {
	it("move bytes between a file descriptor and guest memory, and give negative errnos", () => {
		const ram = GuestRam.map([{ gpa: 0, sizeBytes: 1 << 16 }]);
		const bytes = new Uint8Array(ram.regions[0]!.buffer);
		const event = new EventFd();
		bytes.set([3, 0, 0, 0, 0, 0, 0, 0], 100);
		const hvas = Float64Array.of(ram.regions[0]!.hva + 100);
		const lengths = Uint32Array.of(8);
		expect(native().writev(event.fd, hvas, lengths, 1)).toBe(8);
		hvas[0] = ram.regions[0]!.hva + 200;
		expect(native().readv(event.fd, hvas, lengths, 1)).toBe(8);
		expect(bytes[200]).toBe(3);
		expect(native().readv(event.fd, hvas, lengths, 1)).toBe(-11); /* EAGAIN */
		expect(native().readv(event.fd, hvas, lengths, 2)).toBe(-22); /* more than the arrays hold */
		event.close();
		ram.close();
	});
});
