/*
 * Lab 2: exits and port I/O. The machine is that of lab 1, as a function. Your task is in `portAccess` and in `onExit`.
 * Check it with
 *
 *     tsvmm learn check 2
 */
import { GuestRam, KVM_EXIT_HLT, Kvm, kvm_regs, kvm_run, RunLoop, structView } from "tsvmm/kvm";

/** The devices of the machine: who answers its ports. */
export interface Ports {
	/** The guest has written `value`, of `size` bytes. */
	out(port: number, size: number, value: number): void;
	/** The guest reads `size` bytes. */
	in(port: number, size: number): number;
}

const CODE_ADDRESS = 0x1000;

/** Runs `code` until it halts. Rejects when the guest does anything else that it cannot go on from. */
export async function run(code: Uint8Array, ports: Ports): Promise<void> {
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
		await runVcpu(vcpu.fd, vm.vcpuMmapSize, ports);
	} finally {
		vcpu.close();
		vm.close();
		ram.close();
		kvm.close();
	}
}

function runVcpu(fd: number, runBytes: number, ports: Ports): Promise<void> {
	return new Promise((resolve, reject) => {
		/* The vCPU's thread cannot be ended inside onExit, which it waits for. */
		const end = (settle: () => void) => {
			setImmediate(() => {
				runLoop.close();
				settle();
			});
			return false;
		};
		const runLoop = new RunLoop(1, {
			onExit(_index, run) {
				const reason = run.getUint32(kvm_run.exit_reason, true);
				if (reason === KVM_EXIT_HLT) return end(resolve);
				/* 1. KVM_EXIT_IO: call portAccess, and return true: the vCPU runs on. */
				portAccess(run, ports);
				/* 5. Any other exit: end, and reject with an Error that names the reason. */
				return end(resolve);
			},
			onPosted() {
				/* only for registers that were registered */
			},
			onFailed(_index, errno) {
				end(() => reject(new Error(`KVM_RUN failed: ${errno}`)));
			},
		});
		runLoop.start(0, fd, runBytes);
	});
}

function portAccess(run: DataView, ports: Ports): void {
	/* Where struct kvm_run has direction, size, port, count and data_offset of the exit: io + kvm_run_io.port and so on. */
	const io = kvm_run.io;
	/* 2. A write: ports.out. */
	/* 3. A read: ports.in. */
	/* 4. Several values: each of them. */
	void ports;
	console.log(`Yours to write: an access of a port. Its fields are at ${io} of ${run.byteLength} bytes.`);
}
