import { expect, test } from "vitest";
import type { TraceEvent } from "../../src/trace/event.ts";
import { TRACE_KINDS, TraceFilter } from "../../src/trace/filter.ts";

const access = (bus: "pio" | "mmio", device: string): TraceEvent => {
	return { t: 0, kind: "access", bus, device, write: true, address: 0, size: 1, value: 0 };
};
const kick = (device: string): TraceEvent => ({ t: 0, kind: "kick", device, queue: 0 });

test("TraceFilter passes what any of its words names", () => {
	const passes = (words: string[], event: TraceEvent) => new TraceFilter(words).passes(event);
	expect(passes(["pio"], access("pio", "serial"))).toBe(true);
	expect(passes(["pio"], access("mmio", "virtio-blk0"))).toBe(false);
	expect(passes(["serial"], access("pio", "serial"))).toBe(true);
	expect(passes(["blk"], kick("virtio-blk3"))).toBe(true);
	expect(passes(["blk0"], kick("virtio-blk3"))).toBe(false);
	expect(passes(["virtio-blk3"], kick("virtio-blk3"))).toBe(true);
	expect(passes(["blk0", "queues"], kick("virtio-blk3"))).toBe(true);
	expect(passes(["device=my device"], kick("my device"))).toBe(true);
	expect(passes(["exits"], { t: 0, kind: "violation", device: "virtio-blk0", what: "", needsReset: true })).toBe(true);
	expect(passes([], kick("x"))).toBe(true);
	expect(passes(["all", "pio"], kick("x"))).toBe(true);
});

test("TraceFilter says which kinds it may pass, so that nobody makes the others", () => {
	const { mayPass } = {
		mayPass:
			(...words: string[]) =>
			(kind: TraceEvent["kind"]) =>
				new TraceFilter(words).mayPass(kind),
	};
	expect(mayPass("queues")("access")).toBe(false);
	expect(mayPass("queues")("chain")).toBe(true);
	expect(mayPass("mmio")("access")).toBe(true);
	expect(mayPass("net")("access")).toBe(true);
	expect(mayPass("exits")("machine")).toBe(true);
	for (const kind of TRACE_KINDS) expect(() => new TraceFilter([kind])).not.toThrow();
});

test("TraceFilter keeps the packets of the devices that it names, and all when it names none", () => {
	expect(new TraceFilter(["exits"]).passesPacket("virtio-net0")).toBe(true);
	expect(new TraceFilter(["net0"]).passesPacket("virtio-net0")).toBe(true);
	expect(new TraceFilter(["net0"]).passesPacket("virtio-vsock0")).toBe(false);
});
