/*
 * A virtual machine for the checks' own guests: one vCPU, RAM from address 0, and ports that the check answers. It is
 * what lab 2 builds.
 */
import { GuestRam } from "../host/ram.ts";
import { RunLoop } from "../host/run-loop.ts";
import { KVM_EXIT_HLT, KVM_EXIT_IO, KVM_EXIT_IO_OUT } from "../kvm/constants.ts";
import { structView } from "../kvm/struct-view.ts";
import { kvm_regs, kvm_run, kvm_run_io } from "../kvm/structs.ts";
import { Kvm } from "../kvm/system.ts";
import type { Vcpu } from "../kvm/vcpu.ts";
import type { Vm } from "../kvm/vm.ts";
import { describeExit } from "./exit-names.ts";
import { CODE_ADDRESS } from "./guests.ts";
import { exitOf } from "./recording.ts";

/** Who answers the guest's ports. */
export interface Ports {
	/** "end" ends the guest. */
	out(port: number, size: number, value: number): unknown;
	in(port: number, size: number): number;
}

/** A machine to be. */
export interface BareMachine {
	readonly ramBytes: number;
	/** Before the vCPU is created. */
	beforeVcpu?(vm: Vm): void;
	/** Loads the guest and sets the vCPU's registers. */
	prepare(ram: Uint8Array, vcpu: Vcpu): void;
	/** Before everything is closed. */
	finish?(): void;
	/** The guest is taken for endless after so many. */
	readonly mostExits: number;
}

/** Runs a guest until it halts. @returns "halted", "ended" by a port, or why it ended otherwise */
export async function runBareMachine(machine: BareMachine, ports: Ports): Promise<string> {
	const kvm = Kvm.open();
	const vm = kvm.createVm();
	const ram = GuestRam.map([{ gpa: 0, sizeBytes: machine.ramBytes }]);
	const open: { close(): void }[] = [kvm, ram, vm];
	try {
		const region = ram.regions[0]!;
		vm.setUserMemoryRegion({ slot: 0, ...region });
		machine.beforeVcpu?.(vm);
		const vcpu = vm.createVcpu(0);
		open.push(vcpu);
		vcpu.setCpuid2(kvm.getSupportedCpuid());
		machine.prepare(new Uint8Array(region.buffer), vcpu);
		return await runVcpu(vcpu.fd, vm.vcpuMmapSize, ports, machine.mostExits);
	} finally {
		machine.finish?.();
		for (const one of open.reverse()) one.close();
	}
}

/** Sets a vCPU's registers to real mode at CODE_ADDRESS. */
export function enterRealMode(vcpu: Vcpu): void {
	const sregs = vcpu.getSregs();
	sregs.cs.base = 0n;
	sregs.cs.selector = 0;
	vcpu.setSregs(sregs);
	const regs = structView(kvm_regs);
	regs.rip = BigInt(CODE_ADDRESS);
	regs.rflags = 2n;
	vcpu.setRegs(regs);
}

/** Runs `code` in real mode. */
export function runRealMode(code: Uint8Array, ports: Ports, mostExits: number): Promise<string> {
	const prepare = (ram: Uint8Array, vcpu: Vcpu) => {
		ram.set(code, CODE_ADDRESS);
		enterRealMode(vcpu);
	};
	return runBareMachine({ ramBytes: 0x4000, prepare, mostExits }, ports);
}

function runVcpu(fd: number, runBytes: number, ports: Ports, mostExits: number): Promise<string> {
	return new Promise((resolve, reject) => {
		let exits = 0;
		const end = (settle: () => void): false => {
			setImmediate(() => {
				runLoop.close();
				settle();
			});
			return false;
		};
		const runLoop = new RunLoop(1, {
			onExit: (_index, run) => {
				const reason = run.getUint32(kvm_run.exit_reason, true);
				if (reason === KVM_EXIT_HLT) return end(() => resolve("halted"));
				if (reason !== KVM_EXIT_IO) {
					const exit = describeExit(exitOf(0, run));
					return end(() => resolve(exit));
				}
				if (++exits > mostExits) return end(() => resolve(`${mostExits} accesses, and no end`));
				try {
					return answer(run, ports) === "end" ? end(() => resolve("ended")) : true;
				} catch (error) {
					return end(() => reject(error));
				}
			},
			onPosted: () => undefined,
			onFailed: (_index, errno) => void end(() => resolve(`KVM_RUN failed: ${errno}`)),
		});
		runLoop.start(0, fd, runBytes);
	});
}

/** Passes each value of a port access on, or fills it in. @returns what the last one returned */
function answer(run: DataView, ports: Ports): unknown {
	const io = kvm_run.io;
	const size = run.getUint8(io + kvm_run_io.size);
	const port = run.getUint16(io + kvm_run_io.port, true);
	const data = Number(run.getBigUint64(io + kvm_run_io.data_offset, true));
	const bytes = Buffer.from(run.buffer, run.byteOffset + data);
	let last: unknown;
	for (let i = 0; i < run.getUint32(io + kvm_run_io.count, true); i++) {
		if (run.getUint8(io + kvm_run_io.direction) === KVM_EXIT_IO_OUT) {
			last = ports.out(port, size, bytes.readUIntLE(i * size, size));
		} else {
			const value = ports.in(port, size);
			for (let byte = 0; byte < size; byte++) bytes[i * size + byte] = value >>> (8 * byte);
		}
	}
	return last;
}
