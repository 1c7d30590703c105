import { expect, test } from "vitest";
import { Bus, type BusDevice } from "../../src/base/bus.ts";

/** Bytes; remembers each access as [offset, size]. */
class Bytes implements BusDevice {
	readonly name = "bytes";
	readonly bytes = new Uint8Array(16);
	readonly accesses: [number, number][] = [];

	read(offset: number, size: number): number {
		this.accesses.push([offset, size]);
		let value = 0;
		for (let i = 0; i < size; i++) value += this.bytes[offset + i]! * 2 ** (8 * i);
		return value;
	}
	write(offset: number, size: number, value: number): void {
		this.accesses.push([offset, size]);
		for (let i = 0; i < size; i++) this.bytes[offset + i] = value >>> (8 * i);
	}
}

const PARTS: [number, number[]][] = [
	[1, [1]],
	[2, [2]],
	[3, [2, 1]],
	[4, [4]],
	[5, [4, 1]],
	[6, [4, 2]],
	[7, [4, 2, 1]],
	[8, [4, 4]],
];

test.each(PARTS)("Bus.write and Bus.read of %i bytes reach a device in sizes that it takes", (length, parts) => {
	const bus = new Bus();
	const device = new Bytes();
	bus.add(0x1000, 16, device);
	const data = Uint8Array.from({ length }, (_, i) => 0xf1 + i);
	bus.write(0x1001, data);
	expect([...device.bytes.subarray(1, 1 + length)]).toEqual([...data]);
	expect(device.accesses.map(([, size]) => size)).toEqual(parts);
	const back = new Uint8Array(length);
	bus.read(0x1001, back);
	expect(back).toEqual(data);
});

test("Bus.read of nothing, or over a device's end, gives all ones; a write there vanishes", () => {
	const bus = new Bus();
	const device = new Bytes();
	bus.add(0x1000, 16, device);
	for (const [address, length] of [
		[0x2000, 8],
		[0x100e, 4],
		[0xfff, 2],
	] as const) {
		const data = new Uint8Array(length);
		bus.read(address, data);
		expect(data.every((byte) => byte === 0xff)).toBe(true);
		bus.write(address, data);
	}
	expect(device.accesses).toEqual([]);
});

test("Bus.add refuses a range that overlaps another's", () => {
	const bus = new Bus();
	bus.add(0x1000, 16, new Bytes());
	bus.add(0x1010, 16, new Bytes());
	expect(() => bus.add(0x100f, 1, new Bytes())).toThrow(expect.objectContaining({ code: "ERR_BUS_OVERLAP" }));
});

test("Bus.remove leaves nothing at a device's addresses, which another may take then", () => {
	const bus = new Bus();
	const first = new Bytes();
	bus.add(0x100, 16, first);
	bus.write(0x100, Uint8Array.of(7));
	bus.remove(first);
	bus.remove(first);
	const data = new Uint8Array(1);
	bus.read(0x100, data);
	expect(data[0]).toBe(0xff);
	bus.add(0x100, 16, new Bytes());
	bus.read(0x100, data);
	expect(data[0]).toBe(0);
	expect(first.accesses).toEqual([[0, 1]]);
});
