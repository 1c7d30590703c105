/*
 * Lab 2, solved: runs a guest in real mode and passes each access to a port on.
 */
import {
	GuestRam,
	KVM_EXIT_HLT,
	KVM_EXIT_IO,
	KVM_EXIT_IO_OUT,
	Kvm,
	kvm_regs,
	kvm_run,
	kvm_run_io,
	RunLoop,
	structView,
} from "tsvmm/kvm";

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
				if (reason !== KVM_EXIT_IO) return end(() => reject(unexpected(reason)));
				portAccess(run, ports);
				return true;
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

const unexpected = (reason: number) => new Error(`unexpected exit ${reason}`);

/** One exit may carry several values: `rep insb` reads a whole string. */
function portAccess(run: DataView, ports: Ports): void {
	const io = kvm_run.io;
	const isOut = run.getUint8(io + kvm_run_io.direction) === KVM_EXIT_IO_OUT;
	const size = run.getUint8(io + kvm_run_io.size);
	const port = run.getUint16(io + kvm_run_io.port, true);
	const count = run.getUint32(io + kvm_run_io.count, true);
	const data = Number(run.getBigUint64(io + kvm_run_io.data_offset, true));
	const bytes = Buffer.from(run.buffer, run.byteOffset + data, count * size);
	for (let at = 0; at < count * size; at += size) {
		if (isOut) ports.out(port, size, bytes.readUIntLE(at, size));
		else bytes.writeUIntLE(ports.in(port, size), at, size);
	}
}
