import { expect, test } from "vitest";
import { GuestMemory } from "../../src/base/guest-memory.ts";
import { GenerationId } from "../../src/devices/generation-id.ts";

const PLACE = 0x1010;

function machine() {
	const memory = new GuestMemory([{ gpa: 0, sizeBytes: 0x2000, hva: 0, buffer: new ArrayBuffer(0x2000) }]);
	let told = 0;
	const device = new GenerationId(memory, () => told++);
	const id = () => Buffer.from(memory.bytes(PLACE, 16)).toString("hex");
	return { memory, device, id, told: () => told };
}

test("GenerationId gives a guest that boots an ID, and each clone another one with an event", () => {
	const first = machine();
	first.device.place(PLACE);
	const state = first.device.save();
	const clones = [machine(), machine()];
	for (const { memory, device } of clones) {
		memory.write(PLACE, first.memory.bytes(PLACE, 16));
		device.restore(structuredClone(state));
		expect(device.save()).toEqual(state);
	}
	const ids = [first, ...clones].map(({ id }) => id());
	expect(new Set([...ids, "0".repeat(32)]).size).toBe(4);
	expect([first, ...clones].map(({ told }) => told())).toEqual([0, 1, 1]);
	for (const { memory } of clones) {
		/* Nothing beside it has changed. */
		memory.write(PLACE, new Uint8Array(16));
		expect(Buffer.from(memory.bytes(0, 0x2000)).every((byte) => byte === 0)).toBe(true);
	}
});

test.each([
	["no state", undefined, "is no object"],
	["another version", { version: 2, address: PLACE }, "has version 2"],
	["no address", { version: 1 }, '"address" is missing'],
	["an address that is none", { version: 1, address: -16 }, '"address" is -16'],
	["an address outside RAM", { version: 1, address: 0x2000 }, "is not in RAM"],
	["an address at the end of RAM", { version: 1, address: 0x1ff8 }, "is not in RAM"],
])("GenerationId refuses a state with %s, and changes nothing", (_what, state, message) => {
	const { memory, device, told } = machine();
	expect(() => device.restore(state)).toThrow(message);
	expect(Buffer.from(memory.bytes(0, 0x2000)).every((byte) => byte === 0)).toBe(true);
	expect(told()).toBe(0);
});
