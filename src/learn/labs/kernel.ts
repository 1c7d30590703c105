/*
 * The check of lab 5: the program exports `loadKernel`. It gets two kernels, an ELF file and a bzImage, and RAM that is
 * full of rubbish. What is in RAM afterwards is compared with what the formats say. Where there is KVM, the kernels run.
 */
import { existsSync } from "node:fs";
import { GuestMemory } from "../../base/guest-memory.ts";
import { bootRegs, bootSregs, writeBootTables } from "../../boot/cpu-state.ts";
import type { Vcpu } from "../../kvm/vcpu.ts";
import type { Attempt } from "../attempt.ts";
import { runBareMachine } from "../bare-machine.ts";
import { CMDLINE_KERNEL } from "../guests.ts";
import * as images from "../kernel-images.ts";
import type { Lab } from "../lab.ts";
import { count, hex, quote, type Report } from "../report.ts";

interface Loaded {
	readonly entry: number;
	readonly bootParams: number;
}
type LoadKernel = (file: Uint8Array, ram: Uint8Array, cmdline: string) => Loaded;

const RAM_BYTES = 4 << 20;
const CMDLINE = "console=ttyS0 lab=5";
const RUBBISH = 0xcc;

export const kernelLab: Lab = {
	number: 5,
	name: "kernel",
	title: "load a Linux kernel",
	needsKvm: false,
	async check(attempt) {
		const load = await attempt.exported<LoadKernel>("loadKernel", "function");
		await attempt.call("loadKernel", () => {
			checkElf(attempt, load);
			checkBzImage(attempt, load);
			checkRefusals(attempt, load);
		});
		await checkRun(attempt, load, images.elfKernel(), "the ELF kernel");
		await checkRun(attempt, load, images.bzImage(), "the bzImage");
	},
};

const freshRam = (): Uint8Array => new Uint8Array(RAM_BYTES).fill(RUBBISH);

const at = (ram: Uint8Array, address: number, length: number): Buffer =>
	Buffer.from(ram.subarray(address, address + length));

function checkElf({ report }: Attempt, load: LoadKernel): void {
	const ram = freshRam();
	report.doing("loadKernel of an ELF file");
	const loaded = load(images.elfKernel(), ram, CMDLINE);
	const code = at(ram, images.ELF_ENTRY, CMDLINE_KERNEL.length);
	report.must(
		code.equals(CMDLINE_KERNEL),
		`ELF: the code is at its physical address, ${hex(images.TEXT_AT)}`,
		`ELF: at ${hex(images.ELF_ENTRY)} there is ${code.subarray(0, 4).toString("hex")}..., not the kernel's code`,
		"For each program header of type PT_LOAD copy p_filesz bytes from p_offset to p_paddr, not to p_vaddr",
	);
	const data = at(ram, images.DATA_AT, images.DATA.length).toString("latin1");
	report.must(
		data === images.DATA,
		"ELF: the second segment is there, too",
		`ELF: at ${hex(images.DATA_AT)} there is ${quote(data)}, not ${quote(images.DATA)}`,
		"There are e_phnum program headers, of e_phentsize bytes each, from e_phoff",
	);
	const rest = at(ram, images.DATA_AT + images.DATA.length, images.DATA_BYTES - images.DATA.length);
	report.expect(
		rest.every((byte) => byte === 0),
		`ELF: what p_memsz has more than p_filesz is zero (the kernel's .bss)`,
		`ELF: the segment at ${hex(images.DATA_AT)} has ${images.DATA.length} bytes in the file and ${images.DATA_BYTES} in memory; the others hold ${hex(rest.find((byte) => byte !== 0) ?? 0)}, not 0`,
		"Fill p_memsz bytes with 0 before you copy: RAM need not be fresh",
	);
	report.expect(
		at(ram, 0x9000, 4).every((byte) => byte === RUBBISH),
		"ELF: a note is not loaded",
		"ELF: a program header of type PT_NOTE (4) was copied to RAM; only PT_LOAD (1) is loaded",
	);
	report.must(
		loaded?.entry === images.ELF_ENTRY,
		`ELF: the entry is e_entry, ${hex(images.ELF_ENTRY)}`,
		`ELF: the entry is ${loaded?.entry === undefined ? "missing" : hex(loaded.entry)}; e_entry says ${hex(images.ELF_ENTRY)}`,
		"Return { entry, bootParams }; e_entry is a u64 at offset 24",
	);
	checkBootParams(report, ram, loaded.bootParams, "ELF");
}

function checkBzImage({ report }: Attempt, load: LoadKernel): void {
	const ram = freshRam();
	const file = images.bzImage();
	report.doing("loadKernel of a bzImage");
	const loaded = load(file, ram, CMDLINE);
	const payload = Buffer.from(file.subarray(512 * (1 + images.SETUP_SECTORS)));
	report.must(
		at(ram, images.BZIMAGE_AT, payload.length).equals(payload),
		`bzImage: the kernel, ${count(payload.length, "byte")} after ${1 + images.SETUP_SECTORS} sectors of setup, is at ${hex(images.BZIMAGE_AT)}`,
		`bzImage: at ${hex(images.BZIMAGE_AT)} there is ${at(ram, images.BZIMAGE_AT, 4).toString("hex")}...; the file has ${payload.subarray(0, 4).toString("hex")}... at byte ${512 * (1 + images.SETUP_SECTORS)}`,
		"The kernel begins after 1 + setup_sects sectors of 512 bytes; setup_sects is the byte at 0x1f1, and 0 means 4",
	);
	report.must(
		loaded?.entry === images.BZIMAGE_ENTRY,
		`bzImage: the entry is the 64-bit one, ${hex(images.BZIMAGE_ENTRY)}`,
		`bzImage: the entry is ${loaded?.entry === undefined ? "missing" : hex(loaded.entry)}; the 64-bit entry is 0x200 bytes into the kernel, ${hex(images.BZIMAGE_ENTRY)}`,
	);
	checkBootParams(report, ram, loaded.bootParams, "bzImage");
	const header = at(ram, loaded.bootParams + images.HEADER_AT, images.HEADER_END - images.HEADER_AT);
	const own = Buffer.from(file.subarray(images.HEADER_AT, images.HEADER_END));
	/* What a loader fills in: type_of_loader at 0x210, loadflags, cmd_line_ptr at 0x228. */
	for (const [field, length] of [
		[0x210, 2],
		[0x228, 4],
	] as const) {
		for (const part of [header, own]) part.fill(0, field - images.HEADER_AT, field - images.HEADER_AT + length);
	}
	report.must(
		header.equals(own),
		"bzImage: the boot parameters have the file's setup header",
		`bzImage: the boot parameters at ${hex(loaded.bootParams)} do not have the file's setup header (bytes 0x1f1 to ${hex(images.HEADER_END)}): at 0x202 there is ${quote(at(ram, loaded.bootParams + 0x202, 4).toString("latin1"))}`,
		"Copy it to the same offset; it ends at 0x202 plus the byte at 0x201",
	);
}

/** struct boot_params, Documentation/arch/x86/zero-page.rst. */
function checkBootParams(report: Report, ram: Uint8Array, address: number, what: string): void {
	report.must(
		Number.isInteger(address) && address >= 0x1000 && address + 4096 <= images.TEXT_AT && address % 4096 === 0,
		`${what}: bootParams is a page below the kernel, ${hex(address ?? 0)}`,
		`${what}: bootParams is ${address}; the address of a page below ${hex(images.TEXT_AT)}, and not page 0, was expected`,
		"Take 0x7000, for example",
	);
	const page = new DataView(ram.buffer, ram.byteOffset + address, 4096);
	report.must(
		page.getUint8(0x210) === 0xff,
		`${what}: type_of_loader (0x210) is 0xff, a loader without a number`,
		`${what}: type_of_loader (0x210) is ${hex(page.getUint8(0x210))}; 0 is refused by the kernel, 0xff was expected`,
	);
	const pointer = page.getUint32(0x228, true);
	const text = Buffer.from(ram.subarray(pointer, pointer + 64))
		.toString("latin1")
		.split("\0");
	report.must(
		text[0] === CMDLINE && text.length > 1,
		`${what}: cmd_line_ptr (0x228) leads to the command line, with a 0 at its end`,
		`${what}: cmd_line_ptr (0x228) is ${hex(pointer)}, where ${quote(text[0] ?? "")} is${text.length > 1 ? "" : " and no 0 follows"}; ${quote(CMDLINE)} was expected`,
		"Write the text to RAM, 0x20000 for example, with a 0 after it, and its address into the boot parameters",
	);
	checkMemoryMap(report, page, what);
	const clear = Array.from({ length: 0x1e8 }, (_, i) => page.getUint8(i)).every((byte) => byte === 0);
	report.expect(
		clear,
		`${what}: what nobody has filled in is 0`,
		`${what}: the boot parameters have rubbish in their first bytes: the kernel would take it for a screen, a disk, an address`,
		"Fill the page with 0 first",
	);
}

function checkMemoryMap(report: Report, page: DataView, what: string): void {
	const entries = Array.from({ length: Math.min(page.getUint8(0x1e8), 128) }, (_, i) => {
		const entry = 0x2d0 + 20 * i;
		return {
			start: Number(page.getBigUint64(entry, true)),
			length: Number(page.getBigUint64(entry + 8, true)),
			type: page.getUint32(entry + 16, true),
		};
	});
	const usable = entries.filter(({ type }) => type === 1);
	const told = usable.map(({ start, length }) => `${hex(start)} to ${hex(start + length)}`).join(", ") || "none";
	const whole = usable.some(({ start, length }) => start <= images.TEXT_AT && start + length === RAM_BYTES);
	report.must(
		whole && usable.every(({ start, length }) => start + length <= RAM_BYTES),
		`${what}: the memory map (e820) says which RAM there is: ${told}`,
		`${what}: the memory map (e820) has ${count(entries.length, "entry").replace("entrys", "entries")}, usable: ${told}; RAM up to ${hex(RAM_BYTES)}, the kernel's at ${hex(images.TEXT_AT)} included, and not more, was expected`,
		"e820_entries is the byte at 0x1e8; entries of 20 bytes from 0x2d0: start u64, length u64, type u32 (1 is usable)",
	);
}

function checkRefusals({ report }: Attempt, load: LoadKernel): void {
	const elf = images.elfKernel();
	for (const [what, file, hint] of [
		[
			"a file that is no kernel",
			Buffer.alloc(4096, "PK"),
			"Look for 0x7f ELF at 0 and HdrS at 0x202, and refuse all else",
		],
		[
			"an ELF file that ends too early",
			elf.subarray(0, elf.length - 8),
			"Check p_offset + p_filesz against the length of the file",
		],
		["an ELF segment beyond the RAM", images.elfKernel(RAM_BYTES - 0x80), "Check p_paddr + p_memsz against the RAM"],
		["an empty file", new Uint8Array(0), "Check the length before you read a header"],
		["a bzImage without a 64-bit entry", images.bzImage(0), "Bit 0 of xloadflags (0x236) says that there is one"],
	] as const) {
		report.doing(`loadKernel of ${what}`);
		try {
			load(file, freshRam(), CMDLINE);
			report.wrong(`${what} is loaded as if it were a kernel; an Error was expected`, hint);
		} catch (error) {
			const own = error instanceof Error && !(error instanceof RangeError) && !(error instanceof TypeError);
			report.expect(
				own,
				`${what} is refused`,
				`${what}: loadKernel fails by accident (${(error as Error).message}); an Error that says why was expected`,
				hint,
			);
		}
	}
}

async function checkRun({ report, call }: Attempt, load: LoadKernel, file: Uint8Array, what: string): Promise<void> {
	if (!existsSync("/dev/kvm")) {
		report.open(`not checked here: ${what} runs (this host has no /dev/kvm)`);
		return;
	}
	let output = "";
	const prepare = (ram: Uint8Array, vcpu: Vcpu) => {
		const { entry, bootParams } = load(file, ram, CMDLINE);
		const buffer = ram.buffer as ArrayBuffer;
		writeBootTables(new GuestMemory([{ gpa: 0, sizeBytes: RAM_BYTES, hva: 0, buffer }]), "linux64");
		vcpu.setSregs(bootSregs(vcpu.getSregs(), "linux64"));
		const regs = bootRegs("linux64", entry);
		regs.rsi = BigInt(bootParams);
		vcpu.setRegs(regs);
	};
	const ports = {
		out: (_port: number, _size: number, value: number) => {
			output += String.fromCharCode(value);
		},
		in: () => 0xff,
	};
	const end = await call("loadKernel", () => runBareMachine({ ramBytes: RAM_BYTES, prepare, mostExits: 300 }, ports));
	report.expect(
		end === "halted" && output === CMDLINE,
		`${what} runs, and prints its command line`,
		`${what} printed ${quote(output)} and ended by ${end}; ${quote(CMDLINE)} was expected`,
		"It begins at entry, with the address of the boot parameters in RSI. Pages 0x500 and 0x9000 to 0xefff are the check's",
	);
}
