/*
 * Lab 1: hello from /dev/kvm. The guest writes "hello" into its RAM and halts. Your program makes the machine, lets the
 * guest run, reads the text out of its RAM, and prints it. Check it with
 *
 *     tsvmm learn check 1
 */
import { Kvm } from "tsvmm/kvm";

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

/* 1. A machine: open KVM, and let it create a VM. */
const kvm = Kvm.open();

/* 2. RAM: map a page by GuestRam.map, copy CODE into it, and give it to the VM at CODE_ADDRESS. */

/* 3. A processor: create vCPU 0. Its code segment begins at 0, and its instruction pointer is CODE_ADDRESS. */

/* 4. Run it: a RunLoop of one vCPU. Wait for the exit, and look at its reason. */

/* 5. Print the five bytes at TEXT_ADDRESS as text. Then close everything. */
console.log(`Yours to write: run ${CODE.length} bytes at ${CODE_ADDRESS}, and print the text at ${TEXT_ADDRESS}`);
kvm.close();
