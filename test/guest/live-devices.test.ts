/*
 * Devices in files under a guest that asks them for eight bytes at each key: loaded, loaded again, with errors. Needs
 * /dev/kvm.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { BUFFERS, powerOff, print, request, startDevice, writeKernel } from "../../docs/examples/kernel.ts";
import type { ConsoleBackend, ConsoleEvents } from "../../src/backends/contract.ts";
import { Machine } from "../../src/machine/machine.ts";
import { PACKAGE_MODULES } from "../../src/package-modules.ts";
import { LiveDevices } from "../../src/workbench/live-devices.ts";
import { bundle } from "../cli/tsvmm.ts";
import { outb } from "./tiny-kernel.ts";

const KEYS = 6;
/** mov dx, 0x3fd; in al, dx; test al, 1; jz back; mov dx, 0x3f8; in al, dx */
const WAIT_KEY = [0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 1, 0x74, 0xf7, 0x66, 0xba, 0xf8, 0x03, 0xec];
const ask = (n: number) => [
	...WAIT_KEY,
	...request(n, [{ address: BUFFERS, lengthBytes: 8, write: true }]),
	...print(BUFFERS, 8),
];

let directory: string;
let path: string;
let kernel: string;
beforeAll(() => {
	bundle();
	kernel = join(mkdtempSync(join(tmpdir(), "tsvmm-live-kernel-")), "asker.elf");
	/* The serial port gives input to a driver that has enabled its interrupt. */
	writeKernel(kernel, outb(0x3f9, 1), startDevice(), ...Array.from({ length: KEYS }, (_, n) => ask(n)), powerOff());
}, 60_000);
afterAll(() => rmSync(join(kernel, ".."), { recursive: true }));
beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-live-"));
	path = join(directory, "device.ts");
});
afterEach(() => rmSync(directory, { recursive: true }));

interface Text {
	/** What an answer is, as an expression; the class's fields can be used. */
	answer: string;
	imports?: string;
	members?: string;
	queueSize?: number;
}

/** Writes the device. Line 9 has the answer. */
function write({ answer, imports = "", members = "", queueSize = 16 }: Text): void {
	const text = `import type { Activation, VirtioDevice, Virtqueue } from "tsvmm/virtio";
import { StateReader } from "tsvmm/virtio"; ${imports}
export default class Answerer implements VirtioDevice {
	readonly name = "answerer"; readonly deviceId = 63; readonly features = 0n; readonly queueSizes = [${queueSize}];
	readonly config = new Uint8Array(0); protected queue: Virtqueue | undefined; count = 0; options: Record<string, string>;
	constructor(options: Record<string, string>) { this.options = options; }
	activate({ queues }: Activation): void { this.queue = queues[0]; }
	notify(): void { for (let chain = this.queue?.pop(); chain !== undefined; chain = this.queue?.pop()) { this.count++;
		const answer: string = ${answer};
		this.queue?.push(chain, chain.writable.copyFrom(Buffer.from(answer.padEnd(8, ".")))); } this.queue?.flush(); }
	reset(): void { this.queue = undefined; }
	async close(): Promise<void> { this.reset(); }
	${members}
}
export const reader = StateReader;
`;
	writeFileSync(path, text);
}

/** A machine with the device of the file. */
async function boot(options: { watched?: boolean } = {}) {
	let [printed, events]: [string, ConsoleEvents | undefined] = ["", undefined];
	const console: ConsoleBackend = {
		start: (to) => {
			events = to;
		},
		write: (bytes) => {
			printed += Buffer.from(bytes);
			return true;
		},
		close: async () => undefined,
	};
	const told: string[] = [];
	const report = { error: (text: string) => told.push(`error: ${text}`), note: (text: string) => told.push(text) };
	const config = { path, watched: options.watched ?? true, options: { text: "given" } };
	const live = await LiveDevices.load([config], PACKAGE_MODULES, report);
	const log = { write: () => undefined };
	const machine = await Machine.create({ kernel, devices: live.devices, console: { kind: "own", console }, log });
	live.follow(machine);
	machine.start();
	const key = () => machine.enter("test", () => events!.input(Buffer.from("k")));
	/** Presses a key, and waits for what the guest prints. */
	const answer = async () => {
		const before = printed.length;
		key();
		await expect.poll(() => printed.length).toBe(before + 8);
		return printed.slice(before).replaceAll(".", "");
	};
	const hears = (what: RegExp) => expect.poll(() => told.at(-1)).toMatch(what);
	return { machine, live, told, key, answer, hears, printed: () => printed };
}

test("a device in a file answers, and is loaded again when it or what it imports changes", async () => {
	const part = (text: string) => writeFileSync(join(directory, "part.ts"), `export const part: string = "${text}";\n`);
	write({ answer: '"old"' });
	const { machine, live, answer, hears } = await boot();
	expect(await answer()).toBe("old");
	part("part");
	write({ answer: "part", imports: 'import { part } from "./part.ts";' });
	await hears(/^device answerer: .*device\.ts was loaded again; the new device serves .*, and begins anew$/);
	expect(await answer()).toBe("part");
	part("whole");
	await expect.poll(answer, { interval: 300 }).toBe("whole");
	write({ answer: "this.options.text" });
	await hears(/loaded again/);
	expect(live.files).toEqual([path]);
	await machine.stop();
	await live.close();
});

test("a device that can be saved goes on with its state", async () => {
	const members = `
	save() { return { version: 1, count: this.count } as const; }
	restore(state: unknown, activation: Activation | undefined): void {
		this.count = new StateReader("answerer", state).version(1).u32("count");
		if (activation !== undefined) this.activate(activation);
	}`;
	write({ answer: '"a" + this.count', members });
	const { machine, answer, hears } = await boot();
	expect([await answer(), await answer()]).toEqual(["a1", "a2"]);
	write({ answer: '"b" + this.count', members });
	await hears(/with the state of the old one$/);
	expect(await answer()).toBe("b3");
	await machine.stop();
});

test("a file with an error changes nothing, and the error is told with its line", async () => {
	write({ answer: '"old"' });
	const { machine, told, answer, hears } = await boot();
	write({ answer: "= 3" });
	await hears(
		/^error: device answerer: Cannot load device .*: SyntaxError: .*, at .*device\.ts:9: const answer: string = = 3;\n {2}The old device goes on$/s,
	);
	expect(await answer()).toBe("old");
	writeFileSync(path, "export default 3;\n");
	await hears(/Cannot use .*device\.ts as a device: it has no default export that is or makes a device\n/);
	expect(await answer()).toBe("old");
	rmSync(path);
	await hears(/Cannot load device/);
	write({ answer: '"back"' });
	await hears(/loaded again/);
	expect(await answer()).toBe("back");
	expect(told).toHaveLength(4);
	await machine.stop();
});

test("a device that throws stands still with its request, and the next one answers it", async () => {
	write({ answer: 'this.count === 2 ? missing() : "fine"', imports: "declare const missing: () => string;" });
	const { machine, key, answer, hears, printed } = await boot();
	expect(await answer()).toBe("fine");
	key();
	await hears(
		/^error: device answerer: error in notify: ReferenceError: missing is not defined\n .*device\.ts:9: const answer.*\n {2}The device stands still/,
	);
	expect(machine.state).toBe("running");
	write({ answer: '"again"' });
	await hears(/loaded again/);
	await expect.poll(printed).toBe("fine....again...");
	expect(await answer()).toBe("again");
	await machine.stop();
});

test("a device that was asked not to be loaded again ends the machine with its error", async () => {
	write({ answer: "missing()", imports: "declare const missing: () => string;" });
	const { machine, told, key } = await boot({ watched: false });
	key();
	expect(await machine.ended).toEqual({ reason: "device-failed", detail: "answerer: missing is not defined" });
	expect(told).toEqual([expect.stringMatching(/error in notify: .*device\.ts:9: .*\n {2}The machine ends$/s)]);
});

test("a device of another shape is removed, and a new one is added", async () => {
	write({ answer: '"old"' });
	const { machine, answer, hears } = await boot();
	expect(await answer()).toBe("old");
	const address = machine.deviceAddress("answerer");
	write({ answer: '"new"', queueSize: 32 });
	await hears(/its queue sizes differ, so the old device was removed, and the guest is told of a new one$/);
	expect(machine.deviceIds).toEqual(["answerer"]);
	expect(machine.deviceAddress("answerer")).not.toBe(address);
	await machine.stop();
});
