/* A kind of device that is one more line in the table. Needs /dev/kvm. */
import { afterAll, expect, test, vi } from "vitest";
import type { MachineConfig } from "../../src/machine/config.ts";
import { Machine } from "../../src/machine/machine.ts";
import { VIRTIO_ID_RNG } from "../../src/virtio/rng.ts";
import { type EchoFields, VIRTIO_ID_ECHO } from "../machine/echo-kind.ts";
import { COUNTER, SPIN, TinyKernels } from "./tiny-kernel.ts";

vi.mock("../../src/machine/device-table.ts", async (original) => {
	const { DEVICE_KINDS, ...rest } = await original<typeof import("../../src/machine/device-table.ts")>();
	const { echoKind } = await import("../machine/echo-kind.ts");
	return { ...rest, DEVICE_KINDS: [...DEVICE_KINDS, echoKind] };
});

const kernels = new TinyKernels();
afterAll(() => kernels.remove());

const u32 = (value: number) => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
/** Copies DeviceID of slot 0 and of slot 1 to COUNTER and on. */
const LOOK = [
	...[0xa1, ...u32(0xd0000008), 0xa3, ...u32(COUNTER)],
	...[0xa1, ...u32(0xd0001008), 0xa3, ...u32(COUNTER + 4)],
];

test("a machine has the devices of a kind that is one more line in the table, and its guest finds them", async () => {
	const kernel = kernels.write("", [...LOOK, ...SPIN]);
	const config: MachineConfig & EchoFields = { kernel, memoryMiB: 64, rng: true, echo: true };
	await using machine = await Machine.create(config);
	expect(machine.deviceIds).toEqual(["rng", "echo"]);
	machine.start();
	const seen = () => [0, 4].map((at) => machine.memory.u32(COUNTER + at));
	await expect.poll(seen).toEqual([VIRTIO_ID_RNG, VIRTIO_ID_ECHO]);
});
