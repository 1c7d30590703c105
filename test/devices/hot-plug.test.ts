import { expect, test } from "vitest";
import { HotPlug } from "../../src/devices/hot-plug.ts";

const [PRES, CHNG] = [0, 4];

function slots() {
	let raised = 0;
	const device = new HotPlug(() => raised++);
	const read = (offset: number) => device.read(offset, 4);
	return { device, read, raised: () => raised };
}

test("HotPlug shows what is there, tells what has changed, and forgets what the guest has seen", () => {
	const { device, read, raised } = slots();
	device.occupy(0);
	expect([read(PRES), read(CHNG), raised()]).toEqual([1, 0, 0]);
	device.insert(3);
	device.insert(30);
	device.remove(0);
	expect([read(PRES), read(CHNG), raised()]).toEqual([0x4000_0008, 0x4000_0009, 3]);
	/* A change between the guest's read and its write is not lost. */
	const seen = read(CHNG);
	device.insert(5);
	device.write(CHNG, 4, seen);
	expect([read(CHNG), raised()]).toEqual([1 << 5, 4]);
	/* An event that is no slot's. */
	device.announce(31);
	expect([read(PRES), read(CHNG), raised()]).toEqual([0x4000_0028, 0x8000_0020, 5]);
});

test("HotPlug ignores writes to what is there and accesses of other sizes", () => {
	const { device, read } = slots();
	device.insert(1);
	device.write(PRES, 4, 0xffff_ffff);
	for (const size of [1, 2]) {
		for (let offset = 0; offset < HotPlug.SIZE; offset++) {
			device.write(offset, size, 0xff);
			expect(device.read(offset, size)).toBe(0);
		}
	}
	expect([read(PRES), read(CHNG)]).toEqual([2, 2]);
});

test("HotPlug tells a change again that the guest had not looked at when it was saved", () => {
	const before = slots();
	before.device.insert(2);
	const after = slots();
	after.device.restore(before.device.save());
	expect([after.read(PRES), after.read(CHNG), after.raised()]).toEqual([4, 4, 1]);
	after.device.write(CHNG, 4, 4);
	const last = slots();
	last.device.restore(after.device.save());
	expect([last.read(CHNG), last.raised()]).toEqual([0, 0]);
});
