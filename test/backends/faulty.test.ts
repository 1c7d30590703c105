/* Backends with faults: what a rule asks for happens, and everything else is as without them. */
import { PassThrough } from "node:stream";
import { describe, expect, test, vi } from "vitest";
import type { VsockBackend, VsockGuest } from "../../src/backends/contract.ts";
import { DISK_FAULTS, FaultyDisk } from "../../src/backends/faulty-disk.ts";
import { FaultyNet, NET_FAULTS } from "../../src/backends/faulty-net.ts";
import { FaultyVsock, VSOCK_FAULTS } from "../../src/backends/faulty-vsock.ts";
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import { enterDirectly } from "../../src/base/enter.ts";
import { type DeviceFaults, type FaultEvents, type FaultRule, Faults } from "../../src/base/faults.ts";
import { FakeNet, FULL } from "../virtio/fake-net.ts";
import { Answers, blockSuite } from "./block-suite.ts";
import { bytesOf, segmentsOf } from "./segments-of.ts";

const SECTOR = 512;

function faulty(events: FaultEvents, ...rules: Omit<FaultRule, "device">[]): DeviceFaults {
	const faults = new Faults(
		rules.map((rule) => ({ device: "it", ...rule })),
		{ seed: 3 },
	);
	faults.check([{ id: "it", events }]);
	return faults.of("it", events, enterDirectly)!;
}

describe("with each request late", () => {
	const late = Object.keys(DISK_FAULTS).map((event) => ({ event, effect: "delay", delayMs: 1 }) as const);
	blockSuite({
		name: "FaultyDisk",
		make: async (content) => ({
			disk: new FaultyDisk(new MemoryDisk(content), faulty(DISK_FAULTS, ...late)),
			content: () => content.slice(),
		}),
		memory: (sizeBytes) => ({ hva: 0, bytes: new Uint8Array(sizeBytes) }),
	});
});

describe("FaultyDisk", () => {
	const make = (...rules: Omit<FaultRule, "device">[]) => {
		const disk = new MemoryDisk(Uint8Array.from({ length: 4 * SECTOR }, (_, i) => i));
		return { disk, faulty: new FaultyDisk(disk, faulty(DISK_FAULTS, ...rules)) };
	};

	test("fails requests, which the disk does not see", async () => {
		const { disk, faulty } = make({ event: "write", effect: "io-error" }, { event: "flush", effect: "io-error" });
		const before = disk.bytes.slice();
		const answers = new Answers(faulty);
		faulty.write(0, 0, segmentsOf(new Uint8Array(SECTOR)));
		faulty.flush(1);
		const into = segmentsOf(new Uint8Array(SECTOR));
		faulty.read(2, SECTOR, into);
		expect(answers.results.size).toBe(0);
		faulty.submit();
		expect(await answers.of(0, 1, 2)).toEqual(["io", "io", "ok"]);
		expect(disk.bytes).toEqual(before);
		expect(bytesOf(into)).toEqual(Buffer.from(before.subarray(SECTOR, 2 * SECTOR)));
	});

	test("loses writes, which it answers as done", async () => {
		const { disk, faulty } = make({ event: "write", effect: "lost" });
		const before = disk.bytes.slice();
		const answers = new Answers(faulty);
		faulty.write(0, 0, segmentsOf(new Uint8Array(SECTOR)));
		faulty.submit();
		expect(await answers.of(0)).toEqual(["ok"]);
		expect(disk.bytes).toEqual(before);
	});

	test("flips one bit of what is read, and none of the disk's", async () => {
		const { disk, faulty } = make({ event: "read", effect: "corrupt" });
		const answers = new Answers(faulty);
		const into = segmentsOf(new Uint8Array(2 * SECTOR), 100);
		faulty.read(0, 0, into);
		faulty.submit();
		expect(await answers.of(0)).toEqual(["ok"]);
		const wrong = [...bytesOf(into)].map((byte, i) => byte ^ disk.bytes[i]!).filter((bits) => bits !== 0);
		expect(wrong).toHaveLength(1);
		expect(Math.log2(wrong[0]!) % 1).toBe(0);
	});

	test("drops answers that are late when it is closed", async () => {
		const { faulty } = make({ event: "read", effect: "delay", delayMs: 5 });
		const answer = vi.fn();
		faulty.start(answer);
		faulty.read(0, 0, segmentsOf(new Uint8Array(SECTOR)));
		faulty.submit();
		await faulty.close();
		await new Promise((resolve) => setTimeout(resolve, 10));
		expect(answer).not.toHaveBeenCalled();
	});
});

describe("FaultyNet", () => {
	const frame = (text: string) => Buffer.from(text.padEnd(60, "."));
	const make = (...rules: Omit<FaultRule, "device">[]) => {
		const net = new FakeNet();
		const faultyNet = new FaultyNet(net, faulty(NET_FAULTS, ...rules));
		const readable = vi.fn();
		faultyNet.start({ readable, writable: () => undefined, linkDown: () => undefined });
		const into = segmentsOf(new Uint8Array(100), 30);
		const receive = () => {
			const length = faultyNet.receive(into);
			return length > 0 ? bytesOf(into, length) : length;
		};
		return { net, faultyNet, readable, receive };
	};

	test("drops the guest's frames, or sends them twice", () => {
		const dropping = make({ event: "tx", effect: "drop" });
		expect(dropping.faultyNet.send(segmentsOf(frame("a")))).toBe(true);
		expect(dropping.net.sent).toEqual([]);
		const doubling = make({ event: "tx", effect: "duplicate" });
		expect(doubling.faultyNet.send(segmentsOf(frame("a")))).toBe(true);
		expect(doubling.net.sent).toEqual([frame("a"), frame("a")]);
	});

	test("sends a wrong bit, and leaves the guest's memory as it was", () => {
		const { net, faultyNet } = make({ event: "tx", effect: "corrupt" });
		const sent = segmentsOf(frame("a"), 7);
		faultyNet.send(sent);
		expect(bytesOf(sent)).toEqual(frame("a"));
		expect(net.sent[0]).not.toEqual(frame("a"));
	});

	test("decides once about a frame that the network had no room for", () => {
		const rules = { event: "tx", effect: "drop", probability: 0.5 } as const;
		const outcomes = (refusals: boolean) => {
			const { net, faultyNet } = make(rules);
			for (let i = 0; i < 20; i++) {
				net.room = refusals ? 0 : 1;
				const taken = faultyNet.send(segmentsOf(frame(String(i))));
				net.room = 1;
				if (!taken) faultyNet.send(segmentsOf(frame(String(i))));
			}
			return net.sent.map(String);
		};
		expect(outcomes(true)).toEqual(outcomes(false));
	});

	test("drops frames to the guest, gives them twice, or with a wrong bit", () => {
		const dropping = make({ event: "rx", effect: "drop" });
		dropping.net.arrive(frame("a"), frame("b"));
		expect([dropping.receive(), dropping.receive(), dropping.receive()]).toEqual([-1, -1, 0]);
		const doubling = make({ event: "rx", effect: "duplicate" });
		doubling.net.arrive(frame("a"));
		expect([doubling.receive(), doubling.receive(), doubling.receive()]).toEqual([frame("a"), frame("a"), 0]);
		const corrupting = make({ event: "rx", effect: "corrupt" });
		corrupting.net.arrive(frame("a"));
		expect(corrupting.receive()).not.toEqual(frame("a"));
	});

	test("leaves the header of a frame alone", () => {
		const net = new FakeNet(FULL);
		const faultyNet = new FaultyNet(net, faulty(NET_FAULTS, { event: "rx", effect: "corrupt" }));
		faultyNet.start({ readable: () => undefined, writable: () => undefined, linkDown: () => undefined });
		for (let i = 0; i < 50; i++) {
			net.arrive(Buffer.alloc(14));
			const into = segmentsOf(new Uint8Array(14));
			expect(faultyNet.receive(into)).toBe(14);
			expect(bytesOf(into, 12)).toEqual(Buffer.alloc(12));
			expect(bytesOf(into)).not.toEqual(Buffer.alloc(14));
		}
	});

	test("gives a late frame when its time has come, and asks once to be read", () => {
		vi.useFakeTimers();
		try {
			const { net, readable, receive } = make({ event: "rx", effect: "delay", delayMs: 20 });
			net.arrive(frame("a"), frame("b"));
			readable.mockClear();
			expect([receive(), receive(), receive()]).toEqual([-1, -1, 0]);
			vi.advanceTimersByTime(19);
			expect(readable).not.toHaveBeenCalled();
			vi.advanceTimersByTime(1);
			expect(readable).toHaveBeenCalledTimes(1);
			expect([receive(), receive(), receive()]).toEqual([frame("a"), frame("b"), 0]);
		} finally {
			vi.useRealTimers();
		}
	});
});

describe("FaultyVsock", () => {
	const make = (...rules: Omit<FaultRule, "device">[]) => {
		let seen: VsockGuest | undefined;
		const real: VsockBackend = {
			start: (guest) => {
				seen = guest;
			},
			open: async () => new PassThrough(),
			close: async () => undefined,
		};
		const vsock = new FaultyVsock(real, faulty(VSOCK_FAULTS, ...rules));
		const connect = vi.fn((_port, _stream, answer: (port: number | undefined) => void) => answer(7));
		vsock.start({ connect });
		const ask = (stream = new PassThrough()) =>
			new Promise<number | undefined>((resolve) => seen!.connect(1, stream, resolve));
		return { vsock, connect, ask };
	};

	test("refuses connections of both sides", async () => {
		const { vsock, connect, ask } = make({ event: "connect", effect: "refuse" });
		expect(await vsock.open(1)).toBeUndefined();
		expect(await ask()).toBeUndefined();
		expect(connect).not.toHaveBeenCalled();
	});

	test("lets them wait, and passes on none that was withdrawn meanwhile", async () => {
		const { vsock, connect, ask } = make({ event: "connect", effect: "delay", delayMs: 2 });
		expect(await vsock.open(1)).toBeInstanceOf(PassThrough);
		expect(await ask()).toBe(7);
		const gone = new PassThrough();
		const answer = ask(gone);
		gone.destroy();
		expect(await answer).toBeUndefined();
		expect(connect).toHaveBeenCalledTimes(1);
	});
});
