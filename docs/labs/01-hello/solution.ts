/*
 * Lab 1, solved: a machine with one page of RAM and one processor. The guest writes "hello" into its RAM and halts. The
 * program reads the text there and prints it.
 */
import { GuestRam, KVM_EXIT_HLT, Kvm, kvm_regs, kvm_run, RunLoop, structView } from "tsvmm/kvm";

const CODE_ADDRESS = 0x1000;
const TEXT_ADDRESS = 0x1800;
// biome-ignore format: one instruction per line
const CODE = [
	0xbf, 0x00, 0x18, /* mov di, 0x1800 */
	0xb0, 0x68,       /* mov al, 'h' */
	0xaa,             /* stosb: [di] = al, di = di + 1 */
	0xb0, 0x65,       /* mov al, 'e' */
	0xaa,             /* stosb */
	0xb0, 0x6c,       /* mov al, 'l' */
	0xaa,             /* stosb */
	0xaa,             /* stosb */
	0xb0, 0x6f,       /* mov al, 'o' */
	0xaa,             /* stosb */
	0xf4,             /* hlt */
];

/* 1. A machine. */
const kvm = Kvm.open();
const vm = kvm.createVm();

/* 2. RAM, with the code in it. */
const ram = GuestRam.map([{ gpa: CODE_ADDRESS, sizeBytes: 0x1000 }]);
const region = ram.regions[0]!;
const bytes = new Uint8Array(region.buffer);
bytes.set(CODE);
vm.setUserMemoryRegion({ slot: 0, gpa: CODE_ADDRESS, hva: region.hva, sizeBytes: region.sizeBytes });

/* 3. A processor that begins there. */
const vcpu = vm.createVcpu(0);
const sregs = vcpu.getSregs();
sregs.cs.base = 0n;
sregs.cs.selector = 0;
vcpu.setSregs(sregs);
const regs = structView(kvm_regs);
regs.rip = BigInt(CODE_ADDRESS);
regs.rflags = 2n; /* bit 1 is always set */
vcpu.setRegs(regs);

/* 4. Run it until it halts. */
const reason = await new Promise<number>((resolve) => {
	const runLoop = new RunLoop(1, {
		onExit(_index, run) {
			const reason = run.getUint32(kvm_run.exit_reason, true);
			setImmediate(() => {
				runLoop.close();
				resolve(reason);
			});
			return false; /* the vCPU stays where it is */
		},
		onPosted() {
			/* only for registers that were registered */
		},
		onFailed(_index, errno) {
			throw new Error(`KVM_RUN failed: ${errno}`);
		},
	});
	runLoop.start(0, vcpu.fd, vm.vcpuMmapSize);
});

/* 5. The text is in RAM that is ours as well. */
if (reason === KVM_EXIT_HLT) {
	const text = bytes.subarray(TEXT_ADDRESS - CODE_ADDRESS, TEXT_ADDRESS - CODE_ADDRESS + 5);
	console.log(new TextDecoder().decode(text));
} else {
	console.log(`unexpected exit ${reason}`);
}

vcpu.close();
vm.close();
ram.close();
kvm.close();
