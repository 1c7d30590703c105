/*
 * Bare-metal guests on this machine's /dev/kvm, through the real classes: accesses, eventfds, interrupts, posted
 * writes, every way to end, pause and stop, two vCPUs.
 */
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import type { BusDevice } from "../../src/base/bus.ts";
import { EventFd } from "../../src/host/eventfd.ts";
import { KVM_MP_STATE_UNINITIALIZED } from "../../src/kvm/constants.ts";
import { kvm_run } from "../../src/kvm/structs.ts";
import { BareGuest, type BareOptions, buildBareGuests, writeOnly } from "./bare-guest.ts";
import { vcpuThreads } from "./threads.ts";

beforeAll(buildBareGuests);

let guest: BareGuest | undefined;
afterEach(() => {
	guest?.close();
	guest = undefined;
});

function create(name: string, options?: BareOptions): BareGuest {
	guest = new BareGuest(name, options);
	return guest;
}

/** A port that a guest reads a parameter from. */
const parameter = (value: number): BusDevice => ({ name: "parameter", read: () => value, write: () => undefined });

/** Bytes that keep what was written. */
function memoryDevice(sizeBytes: number): BusDevice {
	const bytes = new DataView(new ArrayBuffer(sizeBytes + 4));
	return {
		name: "bytes",
		read: (offset) => bytes.getUint32(offset, true),
		write: (offset, size, value) => {
			for (let i = 0; i < size; i++) bytes.setUint8(offset + i, value >>> (8 * i));
		},
	};
}

/** Waits until `condition` holds, 4 s at most. */
async function until(condition: () => boolean): Promise<void> {
	const deadline = performance.now() + 4000;
	while (!condition() && performance.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 1));
	expect(condition()).toBe(true);
}

describe("RunLoop with a bare-metal guest", () => {
	it("hello prints by posted writes that stop no vCPU", async () => {
		const vm = create("hello");
		vm.runLoop.registerPosted(true, 0x3f8, 1);
		expect(await vm.run()).toEqual({ kind: "finished", status: 0 });
		expect(vm.output).toBe("hello from ring 3\n");
		expect(vm.exits).toBe(1);
	});

	it("hello prints the same when every write stops the vCPU", async () => {
		const vm = create("hello");
		expect(await vm.run()).toEqual({ kind: "finished", status: 0 });
		expect(vm.output).toBe("hello from ring 3\n");
		expect(vm.exits).toBe(19);
	});

	it("port and MMIO accesses of every width reach their device and come back", async () => {
		const vm = create("access");
		vm.mmio.add(0xd000_0000, 0x100, memoryDevice(0x100));
		vm.pio.add(0x510, 8, memoryDevice(8));
		expect(await vm.run()).toEqual({ kind: "finished", status: 0 });
	});

	it("an ioeventfd kick and an irqfd interrupt make the round trip without a vCPU exit", async () => {
		const vm = create("kick", { irqchip: true });
		const kick = new EventFd();
		const irq = new EventFd();
		vm.vm.ioeventfd({ fd: kick.fd, address: 0xd000_0050, size: 4, datamatch: 7 });
		vm.vm.irqfd(irq.fd, 5);
		vm.pio.add(0x514, 4, parameter(50));
		vm.runLoop.registerPosted(true, 0x3f8, 1);
		let kicks = 0;
		kick.watch(() => {
			kicks++;
			irq.signal();
		});
		expect(await vm.run()).toEqual({ kind: "finished", status: 0 });
		expect(vm.output).toBe("50");
		expect(kicks).toBe(50);
		expect(vm.exits).toBe(2); /* the parameter and the end */
		vm.close();
		kick.close();
		irq.close();
	});

	it("posted writes keep their order with exits, even when the ring overflows", async () => {
		const vm = create("posted");
		vm.runLoop.registerPosted(true, 0x3f8, 1);
		vm.runLoop.registerPosted(false, 0xd000_0010, 4);
		const word = vm.runLoop.allocateWord();
		vm.runLoop.registerShadowRead(false, 0xd000_0060, 4, word);
		vm.runLoop.registerAck(false, 0xd000_0064, 4, word);
		Atomics.store(vm.runLoop.shadow, word, 3);
		const marks: [index: number, printed: number][] = [];
		vm.pio.add(
			0x514,
			4,
			writeOnly("mark", (value) => marks.push([value, vm.output.length])),
		);
		let mmio = 0;
		vm.mmio.add(
			0xd000_0010,
			4,
			writeOnly("mmio", (value) => {
				mmio = value;
			}),
		);
		expect(await vm.run()).toEqual({ kind: "finished", status: 0 });
		expect(marks).toEqual([499, 999, 1499, 1999, 2499, 2999].map((i) => [i, i + 1]));
		expect(mmio).toBe(0xffff);
		expect(vm.output.slice(0, 3000)).toBe(String.fromCharCode(...Array.from({ length: 3000 }, (_, i) => i & 0xff)));
		expect(vm.output.slice(3000)).toBe("rep outs in one go");
		expect(Atomics.load(vm.runLoop.shadow, word)).toBe(2);
	});

	it("posted writes survive a JavaScript thread that does not come", async () => {
		const vm = create("posted");
		vm.runLoop.registerPosted(true, 0x3f8, 1);
		const word = vm.runLoop.allocateWord();
		vm.runLoop.registerShadowRead(false, 0xd000_0060, 4, word);
		vm.runLoop.registerAck(false, 0xd000_0064, 4, word);
		Atomics.store(vm.runLoop.shadow, word, 3);
		const end = vm.run();
		const sleeper = new Int32Array(new SharedArrayBuffer(4));
		Atomics.wait(sleeper, 0, 0, 200);
		expect(await end).toEqual({ kind: "finished", status: 0 });
		expect(vm.output.length).toBe(3000 + 18);
	});

	it("HLT without interrupt controllers is an exit", async () => {
		const vm = create("ending");
		vm.pio.add(0x514, 4, parameter(1));
		expect(await vm.run()).toEqual({ kind: "halted" });
	});

	it("a triple fault is told as what it is", async () => {
		const vm = create("ending");
		vm.pio.add(0x514, 4, parameter(2));
		expect(await vm.run()).toEqual({ kind: "failed", reason: "triple-fault: vCPU 0" });
	});

	it("faults in ring 3 reach the guest's handler", async () => {
		const vm = create("ending");
		vm.pio.add(0x514, 4, parameter(3));
		const first = await vm.run();
		expect([0x80 + 13, 0x80 + 14]).toContain(first.kind === "finished" ? first.status : first);
		vm.close();
		const other = create("ending");
		other.pio.add(0x514, 4, parameter(5));
		expect(await other.run()).toEqual({ kind: "finished", status: 0x80 });
	});

	it("stop ends a guest that spins in a tight loop, and no thread is left", async () => {
		const vm = create("ending", { irqchip: true });
		vm.pio.add(0x514, 4, parameter(4));
		vm.runLoop.registerPosted(true, 0x3f8, 1);
		void vm.run();
		await until(() => vm.output === "spinning");
		expect(vcpuThreads()).toBe(1);
		const start = performance.now();
		vm.runLoop.stop();
		expect(performance.now() - start).toBeLessThan(1000);
		await expect.poll(vcpuThreads).toBe(0);
	});

	it("kick pauses a spinning guest, which can be looked at and resumed, many times", async () => {
		const vm = create("ending");
		vm.pio.add(0x514, 4, parameter(4));
		const end = vm.run();
		await until(() => vm.output === "spinning");
		vm.runLoop.kick(0);
		expect(await end).toEqual({ kind: "interrupted", vcpu: 0 });
		const rip = vm.vcpus[0]!.getRegs().rip;
		expect(rip).toBeGreaterThanOrEqual(0x100000n);
		for (let i = 0; i < 200; i++) {
			const again = vm.ended();
			vm.runLoop.resume(0);
			vm.runLoop.kick(0);
			expect(await again).toEqual({ kind: "interrupted", vcpu: 0 });
		}
	});

	it("stop and close are idempotent, also before the start and inside an exit", async () => {
		const vm = create("ending");
		let asked = 0;
		vm.pio.add(0x514, 4, {
			name: "stop",
			read: () => {
				asked++;
				vm.runLoop.stop();
				return 1;
			},
			write: () => undefined,
		});
		void vm.run();
		await until(() => asked > 0);
		vm.runLoop.stop();
		vm.runLoop.stop();
		vm.runLoop.close();
		const unstarted = new BareGuest("hello");
		unstarted.close();
		unstarted.close();
	});

	it("kick and stop reach a vCPU that waits for its start-up IPI", async () => {
		const vm = create("ending", { vcpus: 2, irqchip: true });
		vm.pio.add(0x514, 4, parameter(4));
		vm.vcpus[1]!.setMpState(KVM_MP_STATE_UNINITIALIZED);
		const end = vm.run();
		await until(() => vm.output === "spinning");
		vm.runLoop.kick(1);
		expect(await end).toEqual({ kind: "interrupted", vcpu: 1 });
		vm.runLoop.resume(1);
		vm.runLoop.stop();
	});

	it("a KVM_RUN that fails is told with its errno", async () => {
		const vm = create("ending");
		vm.pio.add(0x514, 4, {
			name: "saboteur",
			/* Register sets that KVM does not have. */
			read: () => {
				vm.runLoop.run(0)!.setBigUint64(kvm_run.kvm_valid_regs, 1n << 60n, true);
				return 4;
			},
			write: () => undefined,
		});
		expect(await vm.run()).toEqual({ kind: "failed", reason: "KVM_RUN of vCPU 0: EINVAL" });
	});

	it("start refuses what is no vCPU, and the loop lives on", async () => {
		const vm = create("hello");
		const other = new EventFd();
		expect(() => vm.runLoop.start(0, other.fd, 4096)).toThrow(expect.objectContaining({ code: "ENODEV" }));
		expect(() => vm.runLoop.start(1, vm.vcpus[0]!.fd, 4096)).toThrow(
			expect.objectContaining({ code: "ERR_RUN_LOOP_VCPU" }),
		);
		expect(await vm.run()).toEqual({ kind: "finished", status: 0 });
		other.close();
	});

	it("two vCPUs run at the same time and share memory", async () => {
		const vm = create("smp", { vcpus: 2, irqchip: true });
		const counts = [0, 0];
		vm.pio.add(0x514, 8, {
			name: "count",
			read: () => 0,
			write: (offset, _size, value) => {
				counts[offset / 4] = value;
			},
		});
		expect(await vm.run()).toEqual({ kind: "finished", status: 0 });
		expect(counts).toEqual([1000, 1000]);
	}, 60_000);
});
