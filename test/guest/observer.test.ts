/* What observers of a real machine see. Needs /dev/kvm. */
import { afterAll, expect, test, vi } from "vitest";
import type { Observer } from "../../src/base/observer.ts";
import { Machine } from "../../src/machine/machine.ts";
import { POWER_OFF, TinyKernels } from "./tiny-kernel.ts";

const kernels = new TinyKernels();
afterAll(() => kernels.remove());

const COM1 = 0x3f8;
const LSR = COM1 + 5;
const INTERRUPT_STATUS = 0xd0000060;
/** in al, dx with dx = LSR; mov eax, [INTERRUPT_STATUS]; mov [InterruptACK], eax */
const LOOK = [
	...[0x66, 0xba, LSR & 0xff, LSR >> 8, 0xec],
	...[0xa1, 0x60, 0x00, 0x00, 0xd0],
	...[0xa3, 0x64, 0x00, 0x00, 0xd0],
];

function listener() {
	const accesses: string[] = [];
	const observer: Observer = {
		access: (bus, device, write, address) =>
			accesses.push(`${bus} ${device} ${write ? "write" : "read"} ${address.toString(16)}`),
	};
	return { accesses, observer };
}

const config = () => ({ kernel: kernels.write("ab", [...LOOK, ...POWER_OFF]), memoryMiB: 64, rng: true });

test("an observer in the configuration sees registers that native code answers otherwise", async () => {
	const { accesses, observer } = listener();
	const machine = await Machine.create({ ...config(), observer });
	machine.start();
	await machine.ended;
	expect(accesses).toEqual([
		"pio serial write 3f8",
		"pio serial write 3f8",
		"pio serial read 3fd",
		`mmio virtio-rng0 read ${INTERRUPT_STATUS.toString(16)}`,
		"mmio virtio-rng0 write d0000064",
		"pio acpi write 600",
	]);
});

test("an observer that comes later sees what JavaScript answers, until it leaves", async () => {
	const { accesses, observer } = listener();
	const machine = await Machine.create(config());
	machine.observe(observer)();
	machine.observe({ exit: (vcpu, reason) => accesses.push(`exit ${vcpu} ${reason}`), ...observer });
	machine.start();
	await machine.ended;
	expect(accesses).toEqual(["pio serial write 3f8", "pio serial write 3f8", "exit 0 2", "pio acpi write 600"]);
});

test("an observer that throws ends its machine in order", async () => {
	const stderr = vi.spyOn(process.stderr, "write").mockReturnValue(true);
	const machine = await Machine.create(config());
	machine.observe({
		exit: () => {
			throw new Error("no more");
		},
	});
	machine.start();
	expect(await machine.ended).toMatchObject({ reason: "device-failed", detail: "exit of vCPU 0: no more" });
	stderr.mockRestore();
});

test("--trace prints what an observer sees", async () => {
	let text = "";
	const write = (line: string) => {
		text += line;
	};
	const machine = await Machine.create({ ...config(), trace: ["pio", "exits"], log: { write } });
	machine.start();
	await machine.ended;
	expect(text).toMatch(/^trace: \d\.\d{6} pio read 0x3fd LSR 60 serial$/m);
	expect(text).toMatch(/^trace: \d\.\d{6} exit vcpu=0 KVM_EXIT_IO$/m);
	expect(text).not.toContain("mmio");
});
