/* All devices of a real machine, moved to another one. Needs /dev/kvm. */
import { afterAll, expect, test } from "vitest";
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import { MemoryFileSystem } from "../../src/backends/memory-file-system.ts";
import type { SavedState } from "../../src/base/state.ts";
import type { MachineConfig } from "../../src/machine/config.ts";
import { quiesceDevices, restoreDevices, resumeDevices, saveDevices } from "../../src/machine/device-states.ts";
import { RngDevice } from "../../src/virtio/rng.ts";
import { outb, SPIN, TinyKernels } from "./tiny-kernel.ts";
import { wired } from "./wired.ts";

const kernels = new TinyKernels();
afterAll(() => kernels.remove());

/** Leaves a keyboard controller that waits for a parameter, a clock register chosen, and a byte in CMOS RAM. */
const BUSY = [...outb(0x70, 0x40), ...outb(0x71, 0xab), ...outb(0x64, 0x60), ...SPIN];
const PANIC = "Kernel panic - not syncing: half a li";

const config = (change: Partial<MachineConfig> = {}): MachineConfig => ({
	kernel: kernels.write(PANIC, BUSY),
	memoryMiB: 64,
	rng: true,
	virtioConsole: true,
	vsock: {},
	disks: [{ backend: new MemoryDisk(4096) }],
	fs: [{ tag: "share", fileSystem: new MemoryFileSystem() }],
	...change,
});

/** The devices' state of a machine whose guest has done all that, with a device that came late. */
async function saved(): Promise<SavedState> {
	let state: SavedState | undefined;
	await wired(config(), async (parts) => {
		parts.threads.start();
		await expect.poll(() => parts.platform.stateful.get("i8042")!.save().pending).toBe(0x60);
		parts.slots.add("late", new RngDevice("late"));
		await parts.threads.pause();
		await quiesceDevices(parts);
		state = structuredClone(saveDevices(parts));
	});
	return state!;
}

test("restoreDevices gives all devices of another machine the state that saveDevices gave", async () => {
	const state = await saved();
	expect(state).toMatchObject({
		platform: {
			"panic-watch": { line: PANIC },
			i8042: { pending: 0x60 },
			rtc: { index: 0x40 },
			serial: { output: new Uint8Array(0) },
			"hot-plug": { present: 0b111111, changed: 0b100000 },
		},
		virtio: [
			{ id: "disk0", slot: 0 },
			{ id: "vsock" },
			{ id: "fs0" },
			{ id: "rng" },
			{ id: "console" },
			{ id: "late", slot: 5 },
		],
	});
	await wired(config({ devices: [new RngDevice("late")] }), async (parts) => {
		restoreDevices(parts, state);
		await quiesceDevices(parts);
		expect(saveDevices(parts)).toEqual(state);
		resumeDevices(parts);
	});
});

test("restoreDevices refuses the state of other devices, and one without a part", async () => {
	const state = await saved();
	await wired(config(), (parts) => {
		expect(() => restoreDevices(parts, state)).toThrow(/the state is of disk0 in slot 0.*the machine has/);
	});
	await wired(config({ devices: [new RngDevice("late")] }), (parts) => {
		const { rtc: _, ...rest } = (state as unknown as { platform: Record<string, SavedState> }).platform;
		expect(() => restoreDevices(parts, { ...state, platform: rest })).toThrow('"rtc" is missing');
		/* Nothing was changed before that was seen. */
		restoreDevices(parts, state);
	});
});
