/* Faults in a machine: a guest with real chains meets them, twice the same for a seed. Needs /dev/kvm. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import {
	addByte,
	BUFFERS,
	powerOff,
	print,
	request,
	startDevice,
	store,
	writeKernel,
} from "../../docs/examples/kernel.ts";
import type { ConsoleBackend } from "../../src/backends/contract.ts";
import { type FaultRule, Faults, Machine, MemoryDisk } from "../../src/index.ts";

const directory = mkdtempSync(join(tmpdir(), "tsvmm-faults-"));
afterAll(() => rmSync(directory, { recursive: true }));

const READS = 40;

/** Reads sector `n`, and prints the status as a digit. */
function readSector(n: number): number[] {
	const [header, data, status] = [BUFFERS, BUFFERS + 0x200, BUFFERS + 0x800];
	return [
		store(header, 0) /* VIRTIO_BLK_T_IN */,
		store(header + 8, n),
		store(status, 0xff),
		request(n, [
			{ address: header, lengthBytes: 16 },
			{ address: data, lengthBytes: 512, write: true },
			{ address: status, lengthBytes: 1, write: true },
		]),
		addByte(status, "0".charCodeAt(0)),
		print(status, 1),
	].flat();
}
const kernel = join(directory, "reader.elf");
writeKernel(kernel, startDevice(), ...Array.from({ length: READS }, (_, n) => readSector(n)), powerOff());

/** Boots the guest. @returns what it has printed, and the faults */
async function run(rules: Omit<FaultRule, "device">[], seed: number) {
	let printed = "";
	const console: ConsoleBackend = {
		write: (bytes) => {
			printed += Buffer.from(bytes);
			return true;
		},
		close: async () => undefined,
	};
	const faults = new Faults(
		rules.map((rule) => ({ device: "blk0", ...rule })),
		{ seed },
	);
	const disks = [{ backend: new MemoryDisk(1 << 20) }];
	await using machine = await Machine.create({ kernel, disks, faults, console: { kind: "own", console } });
	machine.start();
	expect(await machine.ended).toEqual({ reason: "power-off" });
	return { printed, counts: faults.counts.map(({ events, hits }) => [events, hits]) };
}

describe("Faults", () => {
	test("fail some reads of a guest, for a seed always the same", async () => {
		const rule = { event: "read", effect: "io-error", probability: 0.3 } as const;
		const first = await run([rule], 11);
		expect(first.printed).toMatch(/^[01]{40}$/);
		const failed = [...first.printed].filter((status) => status === "1").length;
		expect(first.counts).toEqual([[READS, failed]]);
		expect(failed).toBeGreaterThan(2);
		expect(failed).toBeLessThan(30);
		expect(await run([rule], 11)).toEqual(first);
		expect((await run([rule], 12)).printed).not.toBe(first.printed);
	});

	test("delay answers, and lose interrupts of a guest that polls", async () => {
		const rules: Omit<FaultRule, "device">[] = [
			{ event: "read", effect: "delay", delayMs: 1 },
			{ event: "interrupt", effect: "lost" },
		];
		expect(await run(rules, 1)).toEqual({
			printed: "0".repeat(READS),
			counts: [
				[READS, READS],
				[READS, READS],
			],
		});
	});

	test("are refused for a device that the machine does not have", async () => {
		const faults = new Faults([{ device: "net0", event: "rx", effect: "drop" }], { seed: 0 });
		await expect(Machine.create({ kernel, faults, rng: true })).rejects.toThrow(
			expect.objectContaining({ code: "ERR_FAULT", hint: "Choose from rng or *" }),
		);
	});
});
