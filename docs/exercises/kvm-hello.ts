/*
 * Exercise 1: KVM's hello world. A virtual machine with one page of RAM and one vCPU in real mode runs 12 bytes of
 * code. They add two registers, print the sum as a digit and a newline on port 0x3f8, and halt.
 * docs/exercises/kvm-hello.md explains each step. Run it with
 *
 *     npx tsx docs/exercises/kvm-hello.ts
 */
import {
	GuestRam,
	KVM_EXIT_HLT,
	KVM_EXIT_IO,
	Kvm,
	kvm_regs,
	kvm_run,
	kvm_run_io,
	RunLoop,
	structView,
} from "tsvmm/kvm";

// biome-ignore format: one instruction per line
const CODE = [
	0xba, 0xf8, 0x03, /* mov dx, 0x3f8 */
	0x00, 0xd8,       /* add al, bl */
	0x04, 0x30,       /* add al, '0' */
	0xee,             /* out dx, al */
	0xb0, 0x0a,       /* mov al, '\n' */
	0xee,             /* out dx, al */
	0xf4,             /* hlt */
];
const CODE_ADDRESS = 0x1000;

/* A machine: the KVM device gives a VM, the VM gets RAM. */
const kvm = Kvm.open();
const vm = kvm.createVm();
const ram = GuestRam.map([{ gpa: CODE_ADDRESS, sizeBytes: 0x1000 }]);
const region = ram.regions[0]!;
new Uint8Array(region.buffer).set(CODE);
vm.setUserMemoryRegion({ slot: 0, gpa: CODE_ADDRESS, hva: region.hva, sizeBytes: region.sizeBytes });

/* A processor: code segment at 0, instruction pointer at our code, 2 in AL and 2 in BL. */
const vcpu = vm.createVcpu(0);
const sregs = vcpu.getSregs();
sregs.cs.base = 0n;
sregs.cs.selector = 0;
vcpu.setSregs(sregs);
const regs = structView(kvm_regs);
regs.rip = BigInt(CODE_ADDRESS);
regs.rax = 2n;
regs.rbx = 2n;
regs.rflags = 2n; /* bit 1 is always set */
vcpu.setRegs(regs);

/* Run it: every exit arrives here, with the reason in struct kvm_run. */
await new Promise<void>((halted) => {
	const runLoop = new RunLoop(1, {
		onExit(_index, run) {
			const reason = run.getUint32(kvm_run.exit_reason, true);
			if (reason === KVM_EXIT_IO) {
				const data = run.getUint32(kvm_run.io + kvm_run_io.data_offset, true);
				process.stdout.write(String.fromCharCode(run.getUint8(data)));
				return true; /* on with the next instruction */
			}
			console.log(reason === KVM_EXIT_HLT ? "KVM_EXIT_HLT" : `unexpected exit ${reason}`);
			setImmediate(() => {
				runLoop.close();
				halted();
			});
			return false; /* the vCPU stays where it is */
		},
		onPosted() {
			throw new Error("no register was posted");
		},
		onFailed(_index, errno) {
			throw new Error(`KVM_RUN failed: ${errno}`);
		},
	});
	runLoop.start(0, vcpu.fd, vm.vcpuMmapSize);
});

vcpu.close();
vm.close();
ram.close();
kvm.close();
