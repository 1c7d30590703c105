/*
 * A guest that prints faster than the reader of its console reads: the serial port, the run loop over a helper that the
 * test plays, and a console that takes little.
 */
import { beforeEach, expect, test, vi } from "vitest";
import type { ConsoleBackend, ConsoleEvents } from "../../src/backends/contract.ts";
import { Bus } from "../../src/base/bus.ts";
import { enterDirectly } from "../../src/base/enter.ts";
import { Observers } from "../../src/base/observer.ts";
import { COM1_PORT } from "../../src/boot/addresses.ts";
import { type native, POSTED_ENTRIES } from "../../src/host/native.ts";
import { RunLoop } from "../../src/host/run-loop.ts";
import type { Wiring } from "../../src/machine/builder.ts";
import { attachPlatform } from "../../src/machine/platform.ts";
import { VcpuThreads } from "../../src/machine/vcpu-threads.ts";
import { FakeHelper } from "../host/fake-helper.ts";

let helper: FakeHelper;
vi.mock("../../src/host/native.ts", async (original) => ({
	...(await original<{ native: typeof native }>()),
	native: () => helper,
}));
beforeEach(() => {
	helper = new FakeHelper();
});

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const ROOM = 4096;

/** Has no room above ROOM bytes, until its reader takes all of them. */
class SlowConsole implements ConsoleBackend {
	read = "";
	waiting = "";
	most = 0;
	events!: ConsoleEvents;

	start(events: ConsoleEvents): void {
		this.events = events;
	}
	write(bytes: Uint8Array): boolean {
		this.waiting += Buffer.from(bytes).toString("latin1");
		this.most = Math.max(this.most, this.waiting.length);
		return this.waiting.length < ROOM;
	}
	empty(): void {
		this.read += this.waiting;
		this.waiting = "";
		this.events.writable();
	}
	async close(): Promise<void> {
		/* nothing was opened */
	}
}

function machine() {
	const pio = new Bus("pio");
	const exits: number[] = [];
	const loop = new RunLoop(2, {
		onExit: (index) => exits.push(index) > 0,
		onPosted: (address, size, value) => pio.writeValue(address, size, value),
		onFailed: () => undefined,
	});
	for (const index of [0, 1]) loop.start(index, 0, 4096);
	const console = new SlowConsole();
	const wiring = {
		vm: { irqLine: () => undefined },
		runLoop: loop,
		threads: new VcpuThreads(loop, [], 4096),
		pio,
		entry: { enter: enterDirectly },
		observers: new Observers(),
		observed: false,
	};
	const { serial } = attachPlatform(wiring as unknown as Wiring, console);
	return { console, exits, serial };
}

test("a guest whose serial console is full waits in its exits; nothing is lost, and little is held", async () => {
	const { console, exits } = machine();
	let printed = "";
	/* As many turns as the guest likes, and nobody reads. */
	for (let i = 0; i < 50_000; i++) {
		const byte = 0x20 + (i % 90);
		if (!helper.post(byte, COM1_PORT)) break;
		printed += String.fromCharCode(byte);
		if (i % 100 === 0) helper.wake();
		if (i % 1000 === 0) await turn();
	}
	expect(printed.length).toBeLessThanOrEqual(console.waiting.length + POSTED_ENTRIES);
	expect(helper.waiting).toBe(POSTED_ENTRIES);
	expect(console.most).toBeLessThan(2 * ROOM + POSTED_ENTRIES);
	helper.exit(0);
	helper.exit(1);
	await turn();
	expect(exits).toEqual([]);
	const before = console.waiting.length;
	console.empty();
	await turn();
	expect([helper.waiting, exits]).toEqual([0, [0, 1]]);
	console.empty();
	expect([console.read.length > before, console.read]).toEqual([true, printed]);
});

test("a serial console asks its backend to keep input while the guest does not read", async () => {
	const { console } = machine();
	const wanted: boolean[] = [];
	Object.assign(console, { setInputWanted: (yes: boolean) => wanted.push(yes) });
	for (let i = 0; i < 10; i++) console.events.input(Buffer.alloc(1000));
	expect(wanted.at(0)).toBe(false);
});
