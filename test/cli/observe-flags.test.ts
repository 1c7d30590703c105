/*
 * --trace, --trace-file and --fault of `run` and `create`: what is kept with the container, and what is refused before
 * anything is made.
 */
import { resolve } from "node:path";
import { Command } from "commander";
import { describe, expect, test } from "vitest";
import { addContainerFlags, type ContainerFlags, namedFiles } from "../../src/cli/container/flags.ts";
import { readJoin } from "../../src/cli/container/join-flags.ts";
import { readObserved } from "../../src/cli/container/observe-flags.ts";
import { parseFault } from "../../src/cli/fault-flags.ts";
import { checkFaults } from "../../src/container/life/check-faults.ts";
import { Observed, observation } from "../../src/container/life/observed.ts";
import { machineConfig } from "../../src/container/run.ts";
import { containerConfig } from "../container/life/container-config.ts";

/** The flags of a command line. */
function flagsOf(...words: string[]): ContainerFlags {
	const command = addContainerFlags(new Command("run"));
	command.parse([...words, "busybox"], { from: "user" });
	return command.opts();
}

describe("readObserved", () => {
	test("without a flag nothing is kept", () => {
		expect(readObserved(flagsOf(), true)).toBeUndefined();
	});
	test("files are kept with absolute paths, and each has the events of --trace", () => {
		const flags = flagsOf("--trace", "blk0,vsock0", "--trace-file", "a.jsonl", "--trace-file", "/tmp/b.pcapng");
		const events = ["blk0", "vsock0"];
		expect(readObserved(flags, true)).toEqual({
			traceFiles: [
				{ path: resolve("a.jsonl"), events },
				{ path: "/tmp/b.pcapng", events },
			],
		});
		expect(readObserved(flagsOf("--trace-file", "a.jsonl"), true)).toEqual({
			traceFiles: [{ path: resolve("a.jsonl") }],
		});
	});
	test("a trace without a file is printed, so it is not kept, and needs somebody who stays", () => {
		expect(readObserved(flagsOf("--trace", "blk0"), true)).toBeUndefined();
		expect(() => readObserved(flagsOf("--trace", "blk0"), false)).toThrow(
			expect.objectContaining({ code: "ERR_OPTION_TRACE", hint: "Add --trace-file FILE.jsonl" }),
		);
	});
	test("faults are kept with their seed, which is chosen if none is given", () => {
		const words = ["--fault", "root:read:io-error:1%", "--fault", "*:interrupt:delay:5ms"];
		const kept = readObserved(flagsOf(...words, "--fault-seed", "7"), true);
		expect(kept?.faults?.seed).toBe(7);
		/* As config.json has it. */
		const read = Observed.parse(JSON.parse(JSON.stringify(kept)));
		expect(observation(read).faults?.counts.map(({ rule }) => rule)).toEqual([
			{ device: "root", event: "read", effect: "io-error", probability: 0.01 },
			{ device: "*", event: "interrupt", effect: "delay", delayMs: 5, probability: 1 },
		]);
		expect(readObserved(flagsOf(...words), true)?.faults?.seed).toBeLessThan(2 ** 32);
	});
	test.each([
		[["--trace", "nothing-of-it", "--trace-file", "a.jsonl"], "ERR_OPTION_TRACE"],
		[["--trace-file", "a.txt"], "ERR_TRACE_FORMAT"],
		[["--fault", "root:read:io-error", "--fault-seed", "4294967296"], "ERR_FAULT"],
	])("refuses %j", (words, code) => {
		expect(() => readObserved(flagsOf(...words), true)).toThrow(expect.objectContaining({ code }));
	});
});

test("the lab is given the files that the machine writes", () => {
	expect(namedFiles(flagsOf("--trace-file", "/tmp/tsvmm-observed.jsonl"))).toContainEqual({
		path: "/tmp/tsvmm-observed.jsonl",
		access: "rw",
	});
});

describe("checkFaults", () => {
	const network = { attachments: [{ device: { kind: "user" as const } }], ports: [] };
	const planned = (fault: string) => ({
		...containerConfig(),
		network,
		devices: [{ source: "/dev/sdb", target: "/dev/sdb", readOnly: false }],
		observed: { faults: { rules: [parseFault(fault)], seed: 1 } },
	});
	test.each(["root:read:io-error", "blk0:read:io-error", "writable:flush:delay:1s", "blk1:write:io-error"])(
		"%s is a disk of each container",
		(fault) => {
			expect(() => checkFaults(planned(fault), 0)).not.toThrow();
		},
	);
	test.each([
		"device0:read:io-error",
		"net0:rx:drop",
		"vsock:connect:refuse",
		"share1:interrupt:lost",
		"*:read:delay:1ms",
	])("%s is what this one has", (fault) => {
		expect(() => checkFaults(planned(fault), 2)).not.toThrow();
	});
	test.each([
		["device1:read:io-error", /there is no device "device1"$/],
		["share2:interrupt:lost", /there is no device "share2"$/],
		["net1:rx:drop", /there is no device "net1"$/],
		["root:rx:drop", /root has no event "rx"$/],
		["root:read:drop", /"read" cannot meet "drop"$/],
	])("%s is not", (fault, message) => {
		expect(() => checkFaults(planned(fault), 2)).toThrow(
			expect.objectContaining({ code: "ERR_FAULT", message: expect.stringMatching(message) }),
		);
	});
});

test("machineConfig passes on who looks on, and what goes wrong", () => {
	const kept = {
		traceFiles: [{ path: "/tmp/t.jsonl" }],
		faults: { rules: [parseFault("root:read:io-error")], seed: 3 },
	};
	const { traceFiles, faults } = machineConfig(
		{
			...observation(kept),
			hostname: "test",
			cpus: 1,
			memoryMiB: 64,
			rootfs: { path: "/root.img", fstype: "squashfs" },
			kernel: { name: "k", vmlinux: "/vmlinux" },
		},
		"/initrd",
	);
	expect(traceFiles).toEqual(kept.traceFiles);
	expect(faults?.seed).toBe(3);
});

test.each([
	["--trace", "blk0"],
	["--trace-file", "a.jsonl"],
	["--fault", "root:read:io-error"],
])("%s is refused for a container in another's machine", (flag, value) => {
	const refusal =
		(...join: string[]) =>
		() =>
			readJoin(flagsOf(...join, flag, value));
	expect(refusal("--pod", "web")).toThrow(
		expect.objectContaining({
			code: "ERR_RUN_JOIN",
			message: `Cannot use ${flag} for a container in the machine of pod web`,
			hint: "Run the container without --pod, in a machine of its own",
		}),
	);
	expect(refusal("--network", "container:db")).toThrow(
		expect.objectContaining({ code: "ERR_RUN_JOIN", hint: "Give it to container db" }),
	);
});
