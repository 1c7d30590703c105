/* Recordings and their replay: a guest's requests against the same device, and against devices with a fault. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { BUFFERS, powerOff, request, startDevice, store, text, writeKernel } from "../../docs/examples/kernel.ts";
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import { Machine } from "../../src/machine/machine.ts";
import { BlockDevice } from "../../src/virtio/block.ts";
import type { Activation, VirtioDevice } from "../../src/virtio/device.ts";
import type { Virtqueue } from "../../src/virtio/queue.ts";
import { Recorder, type Recording, readRecording } from "../../src/workbench/recording.ts";
import { replay } from "../../src/workbench/replay.ts";

const directory = mkdtempSync(join(tmpdir(), "tsvmm-replay-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** Gives each text back backwards. */
class Reverser implements VirtioDevice {
	readonly name = "reverser";
	readonly deviceId = 63;
	readonly features: bigint = 0n;
	readonly queueSizes = [16];
	readonly config = new Uint8Array(0);
	protected queue: Virtqueue | undefined;

	activate({ queues }: Activation): void {
		this.queue = queues[0];
	}
	notify(): void {
		for (let chain = this.queue?.pop(); chain !== undefined; chain = this.queue?.pop()) {
			const bytes = Buffer.alloc(chain.readable.totalBytes);
			chain.readable.copyTo(bytes);
			this.queue?.push(chain, chain.writable.copyFrom(this.answer(bytes)));
		}
		this.flush();
	}
	protected answer(bytes: Buffer): Buffer {
		return bytes.reverse();
	}
	protected flush(): void {
		this.queue?.flush();
	}
	reset(): void {
		this.queue = undefined;
	}
	async close(): Promise<void> {
		this.reset();
	}
}

/** Boots a kernel with a device and records. */
async function record(name: string, device: VirtioDevice, ...code: number[][]): Promise<Recording> {
	const [kernel, path] = [join(directory, `${name}.elf`), join(directory, `${name}.jsonl`)];
	writeKernel(kernel, startDevice(), ...code, powerOff());
	const recorder = new Recorder(path);
	await using machine = await Machine.create({ kernel, devices: [device], observer: recorder.observer });
	machine.start();
	expect(await machine.ended).toEqual({ reason: "power-off" });
	recorder.close();
	return readRecording(path);
}

const REQUESTS = 20;
let texts: Recording;
beforeAll(async () => {
	const answer = BUFFERS + 0x1000;
	const parts = (n: number) => [
		{ address: BUFFERS, lengthBytes: 3 + (n % 5) },
		{ address: answer, lengthBytes: 8, write: true },
	];
	const ask = (n: number) => [...text(BUFFERS, `text${n % 10}abc`), ...request(n, parts(n))];
	texts = await record("texts", new Reverser(), ...Array.from({ length: REQUESTS }, (_, n) => ask(n)));
});

test("the same device behaves as recorded, over and over", async () => {
	for (let i = 0; i < 3; i++) {
		expect(await replay(texts, "reverser", new Reverser())).toMatchObject({ requests: REQUESTS, differences: [] });
	}
});

test("a disk has the sectors and statuses of the recording", async () => {
	const disk = () => new BlockDevice(new MemoryDisk(Uint8Array.from({ length: 1 << 16 }, (_, i) => i % 251)));
	const [header, data, status] = [BUFFERS, BUFFERS + 0x200, BUFFERS + 0x800];
	const access = (n: number, type: number) => [
		...store(header, type),
		...store(header + 8, n),
		...request(n, [
			{ address: header, lengthBytes: 16 },
			{ address: data, lengthBytes: 512, write: type === 0 },
			{ address: status, lengthBytes: 1, write: true },
		]),
	];
	const code = [access(0, 0), access(1, 1), access(2, 0)];
	const recording = await record("disk", disk(), ...code);
	expect(await replay(recording, "virtio-blk0", disk())).toMatchObject({ requests: 3, differences: [] });
	const other = new BlockDevice(new MemoryDisk(1 << 16));
	const { differences } = await replay(recording, "virtio-blk0", other);
	expect(differences).toEqual([
		expect.stringMatching(/^event \d+: byte 1 of the answer to the request of event \d+ is 0x0, recorded is 0x1$/),
		expect.stringMatching(/^event \d+: byte \d+ of the answer to the request of event \d+ is 0x0, recorded is 0x/),
	]);
});

test.each([
	[
		"another answer",
		class extends Reverser {
			protected override answer(bytes: Buffer) {
				return super.answer(bytes).fill("!", 0, 1);
			}
		},
		/^event \d+: byte 0 of the answer to the request of event \d+ is 0x21, recorded is 0x[0-9a-f]+$/,
	],
	[
		"another length",
		class extends Reverser {
			protected override answer(bytes: Buffer) {
				return super.answer(bytes).subarray(1);
			}
		},
		/^event \d+: the request of event \d+ was answered with 2 bytes, recorded are 3$/,
	],
	[
		"no flush",
		class extends Reverser {
			protected override flush() {
				return undefined;
			}
		},
		/^answers at queue 0 were pushed and never flushed, so a guest does not see them$/,
	],
])("a device with %s is found", async (_, Faulty, message) => {
	const { differences } = await replay(texts, "reverser", new Faulty());
	expect(differences).toContainEqual(expect.stringMatching(message));
});

test("a device that answers nothing is found, and an answer that comes late is none", async () => {
	class Silent extends Reverser {
		override notify(): void {
			this.queue?.pop();
		}
	}
	const { differences } = await replay(texts, "reverser", new Silent());
	expect(differences[0]).toMatch(/^event \d+: the request of event \d+ at queue 0 was not answered$/);
	expect(differences.at(-1)).toMatch(/there was no interrupt at all$/);
	class Late extends Reverser {
		override notify(): void {
			setTimeout(() => super.notify(), 1);
		}
	}
	expect((await replay(texts, "reverser", new Late())).differences).toEqual([]);
});

test.each([
	["", "it does not begin as one"],
	["{}", "it does not begin as one"],
	["x", "line 1 is no JSON"],
	['{"format":"tsvmm-recording","version":2,"devices":[]}', "its version is 2, and this tsvmm reads version 1"],
	['{"format":"tsvmm-recording","version":1,"devices":[]}\n{"kind":"pop","device":"x"}', "line 2 is no event"],
	['{"format":"tsvmm-recording","version":1,"devices":[]}\n\n[', "line 3 is no JSON"],
])("a file with %j is no recording", (content, what) => {
	const path = join(directory, "bad.jsonl");
	writeFileSync(path, content);
	const message = content === "" ? "line 1 is no JSON" : what;
	expect(() => readRecording(path)).toThrow(
		expect.objectContaining({ code: "ERR_RECORDING", message: `Cannot read recording ${path}: ${message}` }),
	);
});

test("a recording that cannot be written is refused, and one is a line per event", () => {
	expect(() => new Recorder(join(directory, "no", "such"))).toThrow(/Cannot write recording/);
	const lines = readFileSync(join(directory, "texts.jsonl"), "utf8").trimEnd().split("\n");
	expect(lines).toHaveLength(texts.events.length + 1);
	expect(texts.events.at(-1)!.number).toBe(lines.length);
});
