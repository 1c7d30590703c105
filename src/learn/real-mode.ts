/*
 * A virtual machine for the checks' own guests: one vCPU in real mode, a few pages of RAM, and ports that the check
 * answers. It is what lab 2 builds.
 */
import { GuestRam } from "../host/ram.ts";
import { RunLoop } from "../host/run-loop.ts";
import { KVM_EXIT_HLT, KVM_EXIT_IO, KVM_EXIT_IO_OUT } from "../kvm/constants.ts";
import { structView } from "../kvm/struct-view.ts";
import { kvm_regs, kvm_run, kvm_run_io } from "../kvm/structs.ts";
import { Kvm } from "../kvm/system.ts";
import { describeExit } from "./exit-names.ts";
import { CODE_ADDRESS } from "./guests.ts";
import { exitOf } from "./recording.ts";

/** Who answers the guest's ports. */
export interface Ports {
	out(port: number, size: number, value: number): void;
	in(port: number, size: number): number;
}

/** Runs `code` until it halts, or for `mostExits` exits. @returns "halted", or why it ended otherwise */
export async function runRealMode(code: Uint8Array, ports: Ports, mostExits: number): Promise<string> {
	const kvm = Kvm.open();
	const vm = kvm.createVm();
	const ram = GuestRam.map([{ gpa: 0, sizeBytes: 0x4000 }]);
	const region = ram.regions[0]!;
	new Uint8Array(region.buffer).set(code, CODE_ADDRESS);
	vm.setUserMemoryRegion({ slot: 0, ...region });
	const vcpu = vm.createVcpu(0);
	const sregs = vcpu.getSregs();
	sregs.cs.base = 0n;
	sregs.cs.selector = 0;
	vcpu.setSregs(sregs);
	const regs = structView(kvm_regs);
	regs.rip = BigInt(CODE_ADDRESS);
	regs.rflags = 2n;
	vcpu.setRegs(regs);
	try {
		return await runVcpu(vcpu.fd, vm.vcpuMmapSize, ports, mostExits);
	} finally {
		vcpu.close();
		vm.close();
		ram.close();
		kvm.close();
	}
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
				if (reason !== KVM_EXIT_IO) return end(() => resolve(describeExit(exitOf(0, run))));
				if (++exits > mostExits) return end(() => resolve(`${mostExits} accesses, and no end`));
				try {
					answer(run, ports);
					return true;
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

/** Passes each value of a port access on, or fills it in. */
function answer(run: DataView, ports: Ports): void {
	const io = kvm_run.io;
	const size = run.getUint8(io + kvm_run_io.size);
	const port = run.getUint16(io + kvm_run_io.port, true);
	const data = Number(run.getBigUint64(io + kvm_run_io.data_offset, true));
	const bytes = Buffer.from(run.buffer, run.byteOffset + data);
	for (let i = 0; i < run.getUint32(io + kvm_run_io.count, true); i++) {
		if (run.getUint8(io + kvm_run_io.direction) === KVM_EXIT_IO_OUT) {
			ports.out(port, size, bytes.readUIntLE(i * size, size));
		} else {
			const value = ports.in(port, size);
			for (let byte = 0; byte < size; byte++) bytes[i * size + byte] = value >>> (8 * byte);
		}
	}
}
