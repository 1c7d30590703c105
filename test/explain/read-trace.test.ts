/* Traces in files, and rules whose guests would have to run for long. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { diagnose } from "../../src/explain/diagnose.ts";
import { explain } from "../../src/explain/explanation.ts";
import { readTrace } from "../../src/explain/read-trace.ts";
import { report } from "../../src/explain/report.ts";
import { Story } from "../../src/explain/story.ts";
import { addressNames } from "../../src/explain/symbols.ts";
import type { TraceEvent } from "../../src/trace/event.ts";

const directory = mkdtempSync(join(tmpdir(), "tsvmm-explain-"));
afterAll(() => rmSync(directory, { recursive: true }));

function file(name: string, text: string): string {
	const path = join(directory, name);
	writeFileSync(path, text);
	return path;
}

const CREATED: TraceEvent = {
	...({ t: 0, kind: "machine", state: "created", format: 1, cpus: 1, memoryMiB: 64, kernel: "none" } as const),
	...({ cmdline: "root=/dev/vdb", restored: false } as const),
	devices: [{ id: "disk0", name: "virtio-blk0", deviceId: 2, address: 0xd0000000, gsi: 16, queues: [256] }],
};
const line = (text: string): TraceEvent => ({ t: 5, kind: "console", device: "serial", text: `${text}\n` });
const ready: TraceEvent = {
	...({ t: 3, kind: "status", device: "virtio-blk0", status: 15, features: "0x0", featureNames: [] } as const),
	bits: ["ACKNOWLEDGE", "DRIVER", "DRIVER_OK", "FEATURES_OK"],
};
const causes = (...events: TraceEvent[]) => {
	const story = new Story();
	for (const event of events) story.add(event);
	return diagnose(story).map(({ cause }) => cause);
};

test("readTrace takes a trace whose last line was cut, and refuses what is none", async () => {
	const good = [CREATED, { t: 9, kind: "exit", vcpu: 0, reason: "KVM_EXIT_IO" }].map((one) => JSON.stringify(one));
	const story = await readTrace(file("cut.jsonl", `${good.join("\n")}\n{"t":10,"ki`));
	expect([story.events, story.exitCount, story.lastT]).toEqual([2, 1, 9]);
	for (const [name, text] of [
		["empty.jsonl", ""],
		["text.jsonl", "hello\nthere\n"],
		["json.jsonl", "[1]\n{}\n"],
	] as const) {
		await expect(readTrace(file(name, text))).rejects.toMatchObject({ code: "ERR_EXPLAIN_TRACE" });
	}
	await expect(readTrace(join(directory, "absent"))).rejects.toMatchObject({ code: "ERR_EXPLAIN_TRACE" });
});

test("diagnose tells a wrong root= from a disk without a driver", () => {
	const failed = line('VFS: Cannot open root device "vdb" or unknown-block(0,0): error -6');
	expect(causes(CREATED, ready, failed)[0]).toBe("wrong-root");
	expect(causes(CREATED, failed)[0]).toBe("missing-driver");
});

test("diagnose names requests that the disk has failed, and those that it never answers", () => {
	const queue = { t: 4, device: "virtio-blk0", queue: 0, name: "requestq", head: 0 } as const;
	const sizes = { readable: [], writable: [], readableBytes: 16, writableBytes: 513 };
	const answer = { protocol: "blk", status: "VIRTIO_BLK_S_IOERR" } as const;
	const chain: TraceEvent = { kind: "chain", ...queue, ...sizes };
	expect(causes(CREATED, ready, chain, { kind: "used", ...queue, written: 1, took: 1, answer })).toContain(
		"failed-requests",
	);
	const queues = [{ queue: 0, ready: true, pending: 0, inFlight: 1 }];
	const devices = [{ device: "virtio-blk0", gsi: 16, status: 15, interruptStatus: 0, queues }];
	expect(causes(CREATED, ready, chain, { t: 9, kind: "state", vcpus: [], pins: [], devices })).toContain(
		"unanswered-requests",
	);
});

test("diagnose knows a storm of exits, and finds nothing in a machine that powers off", () => {
	const exits = Array.from(
		{ length: 30_000 },
		(_, i): TraceEvent => ({ t: i * 1000, kind: "exit", vcpu: 0, reason: "KVM_EXIT_IO" }),
	);
	expect(causes(...exits)).toContain("exit-storm");
	expect(causes(CREATED, ready, { t: 9, kind: "machine", state: "ended", reason: "power-off" })).toEqual([]);
});

test("report has no control character of a guest", () => {
	const story = new Story();
	story.add(line("\u001b[31mKernel panic - not syncing: \u0007red"));
	const text = report(explain(story));
	expect(text).toContain("\\x1b[31m");
	expect(text).not.toMatch(/[^\n\x20-\x7e]/);
});

test("explain names addresses of a kernel that has moved, and none when nobody knows how far", async () => {
	const map = file(
		"System.map",
		"ffffffff81000000 T _stext\nffffffff81000120 T crash\nffffffff81c00080 T entry_SYSCALL_64\n",
	);
	const vcpu = {
		...({ vcpu: 0, rip: "0xffffffff9b000128", rsp: "0x0", rflags: "0x2", cr0: "0x0", cr2: "0x0", cr3: "0x0" } as const),
		...({ cr4: "0x0", efer: "0x0", idtLimit: 4095, mp: "runnable", interruptsEnabled: false } as const),
		...({ lapicEnabled: true, pending: [], inService: [] } as const),
	};
	const told = async (lstar: string | undefined, ...lines: string[]) => {
		const story = new Story();
		const vcpus = [lstar === undefined ? vcpu : { ...vcpu, lstar }];
		for (const event of [CREATED, ...lines.map(line)]) story.add(event);
		story.add({ t: 9, kind: "state", vcpus, pins: [], devices: [] });
		return report(explain(story, await addressNames(map, true)));
	};
	const moved = await told("0xffffffff9bc00080");
	expect(moved).toContain("vCPU 0 runnable at 0xffffffff9b000128 crash+0x8, interrupts off");
	expect(moved).toContain(`names from ${map}, moved by 0x1a000000: MSR_LSTAR is entry_SYSCALL_64`);
	const printed = await told(
		undefined,
		"Kernel Offset: 0x1a000000 from 0xffffffff81000000 (relocation range: 0x0-0x1)",
	);
	expect(printed).toContain("crash+0x8");
	const unknown = await told("0xffffffff9bc00090");
	expect(unknown).toContain("vCPU 0 runnable at 0xffffffff9b000128, interrupts off");
	expect(unknown).toMatch(/addresses have no names: MSR_LSTAR is .* they are another kernel's/);
	await expect(addressNames(join(directory, "absent"), true)).rejects.toMatchObject({ code: "ERR_SYMBOLS" });
	expect((await addressNames(join(directory, "absent"), false))(new Story()).source.because).toMatch(/no such file/);
});
