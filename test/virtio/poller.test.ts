/*
 * Polling for the driver's next request: with a clock and a thread that the tests turn, and a real queue.
 */
import { describe, expect, it } from "vitest";
import { Poller, type PollingThread } from "../../src/virtio/poller.ts";
import { type Chain, Virtqueue } from "../../src/virtio/queue.ts";
import { FakeRam } from "../driver/fake-ram.ts";

const SIZE = 8;

/** A queue whose chains are answered when they are served, its poller, and a driver that kicks only when it has to. */
class Scene {
	readonly ram = new FakeRam();
	readonly layout = {
		...{ size: SIZE, desc: this.ram.alloc(16 * SIZE), avail: this.ram.alloc(6 + 2 * SIZE, 2), indirect: false },
		used: this.ram.alloc(6 + 8 * SIZE, 4),
	};
	readonly eventIdx: boolean;
	readonly queue: Virtqueue;
	readonly poller: Poller;
	now = 1000;
	/** What happens at each look at everything else; each takes 10 us. */
	looks: (() => void)[] = [];
	collected = 0;
	wanted = false;
	may = true;
	turns = 0;
	#offered = 0;

	constructor(eventIdx: boolean) {
		this.eventIdx = eventIdx;
		const events = { interrupt: () => undefined, broken: () => undefined, more: () => this.turns++ };
		this.queue = new Virtqueue(this.ram.memory, { ...this.layout, eventIdx }, events);
		const thread: PollingThread = {
			mayPoll: () => this.may,
			isWanted: () => {
				this.now += 0.01;
				this.looks.shift()?.();
				return this.wanted;
			},
		};
		const polled = { queue: this.queue, serve: () => this.serve(), collect: () => this.collected++ };
		this.poller = new Poller(thread, polled, () => this.now);
		this.ram.memory.setU64(this.layout.desc, this.ram.alloc(64));
		this.ram.memory.setU32(this.layout.desc + 8, 64);
		/* Until it has seen that the ring is empty, the device wants each kick. */
		this.queue.pop();
	}

	serve(): void {
		for (let chain: Chain | undefined = this.queue.pop(); chain; chain = this.queue.pop()) this.queue.push(chain, 0);
		this.queue.flush();
	}

	/** The driver offers a chain. True when it has to kick. */
	offer(): boolean {
		const { memory } = this.ram;
		const { avail, used } = this.layout;
		memory.setU16(avail + 4 + 2 * (this.#offered % SIZE), 0);
		memory.setU16(avail + 2, ++this.#offered);
		const event = memory.u16(used + 4 + 8 * SIZE);
		return this.eventIdx ? event === this.#offered - 1 : (memory.u16(used) & 1) === 0;
	}

	/** Offers a chain and kicks. The next kick comes `afterMs` later. */
	kick(afterMs: number): void {
		expect(this.offer()).toBe(true);
		this.poller.kicked();
		this.now += afterMs;
	}

	get answered(): number {
		return this.ram.memory.u16(this.layout.used + 2);
	}
}

describe.each([
	["flags", false],
	["EVENT_IDX", true],
])("Poller with %s", (_name, eventIdx) => {
	it("answers requests without kicks while they come close together, and wants kicks afterwards", () => {
		const scene = new Scene(eventIdx);
		scene.kick(0.02);
		expect([scene.answered, scene.collected]).toEqual([1, 0]);
		const kicks: boolean[] = [];
		scene.looks = [() => undefined, () => kicks.push(scene.offer()), () => kicks.push(scene.offer())];
		scene.kick(1);
		expect([scene.answered, kicks]).toEqual([4, [false, false]]);
		expect(scene.collected).toBeGreaterThan(5);
		scene.kick(0);
		expect(scene.answered).toBe(5);
	});

	it("does not poll for kicks that come apart, nor soon after it has polled in vain", () => {
		const scene = new Scene(eventIdx);
		for (let i = 0; i < 5; i++) scene.kick(5);
		expect(scene.collected).toBe(0);
		const polled: number[] = [];
		for (let i = 0; i < 400; i++) {
			const before = scene.collected;
			scene.kick(0.05);
			if (scene.collected > before) polled.push(scene.now);
		}
		const pauses = polled.slice(1).map((at, i) => Math.round(at - polled[i]!));
		expect(pauses.slice(0, 3)).toEqual([2, 4, 8]);
		scene.now += 1000;
		scene.kick(0.01);
		/* Polling that is worth it is not followed by one. */
		scene.looks = Array.from({ length: 1000 }, () => () => void scene.offer());
		for (let i = 0; i < 3; i++) {
			const before = scene.answered;
			scene.kick(0.01);
			expect(scene.answered - before).toBeGreaterThan(10);
		}
	});

	it("goes back to the event loop when a vCPU waits, and at the end of a turn", () => {
		const scene = new Scene(eventIdx);
		scene.kick(0);
		scene.looks = [
			() => {
				scene.wanted = true;
			},
		];
		scene.kick(0);
		expect(scene.collected).toBe(0);
		scene.wanted = false;
		/* A driver that is never at a loss for requests. */
		const begin = scene.now;
		scene.looks = Array.from({ length: 1000 }, () => () => void scene.offer());
		scene.kick(0);
		expect(scene.now - begin).toBeLessThan(0.25);
		expect(scene.answered).toBeGreaterThan(10);
		expect(scene.queue.hasMore).toBe(false);
	});

	it("misses no request that comes while it ends", () => {
		const scene = new Scene(eventIdx);
		scene.kick(0);
		/* Comes with the last look, after which nobody looks. */
		scene.looks = [
			() => {
				scene.wanted = true;
				expect(scene.offer()).toBe(false);
			},
		];
		scene.kick(0);
		expect(scene.answered).toBe(3);
	});

	it("stops for a second where somebody else wants the processor", () => {
		const scene = new Scene(eventIdx);
		scene.kick(0);
		const lost = () => {
			scene.now += 3;
		};
		scene.looks = [() => undefined, lost];
		scene.kick(0);
		expect(scene.collected).toBe(2);
		for (let i = 0; i < 10; i++) scene.kick(0.05);
		expect([scene.answered, scene.collected]).toEqual([12, 2]);
		scene.now += 1000;
		scene.kick(0);
		scene.kick(0);
		expect(scene.collected).toBeGreaterThan(2);
	});

	it("never polls where it may not", () => {
		const scene = new Scene(eventIdx);
		scene.may = false;
		for (let i = 0; i < 5; i++) scene.kick(0);
		expect([scene.answered, scene.collected]).toEqual([5, 0]);
	});

	it("stops at the end of the queue's turn, whose rest the transport asks for", () => {
		const scene = new Scene(eventIdx);
		scene.kick(0);
		while (!scene.queue.turnIsOver()) scene.queue.spend();
		expect(scene.turns).toBe(1);
		scene.looks = [() => undefined];
		expect(scene.offer()).toBe(true);
		scene.poller.kicked();
		expect([scene.answered, scene.queue.hasMore]).toEqual([1, false]);
		scene.queue.beginTurn();
		scene.poller.kicked();
		expect(scene.answered).toBe(2);
	});
});
