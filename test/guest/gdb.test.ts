/*
 * Debian's gdb attached to bare-metal guests: breakpoints, steps, registers, memory, several vCPUs, Ctrl-C, detach. Needs
 * /dev/kvm. The guests run in ring 0, which a KVM that interprets it debugs as well. gdb disassembles them as 64-bit code,
 * and the instructions that it looks at mean the same there.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, afterEach, expect, test } from "vitest";
import { encodePacket } from "../../src/debug/gdb/packets.ts";
import { GdbServer } from "../../src/debug/gdb/server.ts";
import { KVM_MP_STATE_RUNNABLE } from "../../src/kvm/constants.ts";
import { Machine } from "../../src/machine/machine.ts";
import { COUNT, COUNTER, POWER_OFF, TinyKernels } from "./tiny-kernel.ts";

const kernels = new TinyKernels();
const directory = mkdtempSync(join(tmpdir(), "tsvmm-gdb-"));
afterAll(() => {
	kernels.remove();
	rmSync(directory, { recursive: true });
});

const ENDING = `0x${TinyKernels.ENDING.toString(16)}`;
let machine: Machine | undefined;
let server: GdbServer | undefined;
let gdb: ChildProcess | undefined;
afterEach(async () => {
	gdb?.kill("SIGKILL");
	await machine?.stop();
	await server?.close();
	[machine, server, gdb] = [undefined, undefined, undefined];
});

async function waiting(ending: readonly number[], { cpus = 1, path = false } = {}) {
	const made = await Machine.create({ kernel: kernels.write("", ending), memoryMiB: 64, cpus });
	machine = made;
	server = await GdbServer.open(path ? join(directory, "gdb") : 0, made);
	await made.pause();
	made.start();
	return made;
}

/** Starts gdb with commands, after it has attached. */
function startGdb(...commands: string[]): ChildProcess {
	const all = [
		"set confirm off",
		"set pagination off",
		"set tcp connect-timeout 30",
		`target remote ${server!.target}`,
	];
	const words = [...all, ...commands].flatMap((command) => ["-ex", command]);
	gdb = spawn("gdb", ["--nx", "--quiet", ...words], { stdio: ["pipe", "pipe", "pipe"] });
	return gdb;
}

/** Runs gdb to its end. @returns what it has printed */
async function runGdb(...commands: string[]): Promise<string> {
	const child = startGdb(...commands, "quit");
	const [stdout, stderr] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
	return stdout + stderr;
}

test("gdb breaks, steps, reads and writes registers and memory, and its detach lets the guest go on", async () => {
	const machine = await waiting(COUNT);
	const output = await runGdb(
		"print/x $pc",
		`break *${ENDING}`,
		"continue",
		`x/8xb ${ENDING}`,
		"delete",
		"stepi",
		`print/x $pc - ${ENDING}`,
		`print *(int *)${COUNTER}`,
		`set var *(int *)${COUNTER} = 1000`,
		"set var $rbx = 0x1122334455667788",
		"stepi 2",
		`print *(int *)${COUNTER}`,
		"print/x $rbx",
		"print $cs",
		"print $eflags",
		"print/x $cr0",
		"print $xmm0.v4_float[0]",
		"monitor info registers",
		"monitor info vcpus",
		"detach",
	);
	expect(output).toContain("$1 = 0x1000000\n");
	expect(output).toMatch(/Breakpoint 1, 0x0*1000011 in/);
	expect(output).toMatch(/1000011:\s+0xff\s+0x05\s+0x00\s+0x00\s+0x80\s+0x01\s+0xeb\s+0xf8\n/);
	expect(output).toContain("$2 = 0x6\n$3 = 1\n");
	expect(output).toContain("$4 = 1001\n$5 = 0x1122334455667788\n$6 = 16\n");
	expect(output).toMatch(/\$7 = \[.*\]\n\$8 = 0x[0-9a-f]*1\n\$9 = 0\n/);
	expect(output).toMatch(/cs {4}0010 {2}base 0{16} {2}limit ffffffff {2}dpl 0 {2}32 bits\n/);
	expect(output).toMatch(/vCPU 0 {2}rip 0{9}1000017 {2}runs\n/);
	expect(output).toContain("detached");
	await expect.poll(() => machine.memory.u32(COUNTER)).toBeGreaterThan(1100);
	expect(machine.state).toBe("running");
});

test("gdb sees vCPUs as threads, steps one of them, and stops all", async () => {
	const machine = await waiting(COUNT, { cpus: 2, path: true });
	machine.memory.write(0x10000, Buffer.from([0x40, ...COUNT.slice(-2).map((byte, i) => (i === 1 ? 0xfd : byte))]));
	const [first, other] = machine.debug.vcpus;
	other!.setSregs(first!.getSregs());
	const regs = first!.getRegs();
	regs.rip = 0x10000n;
	regs.rax = 0n;
	other!.setRegs(regs);
	other!.setMpState(KVM_MP_STATE_RUNNABLE);
	const output = await runGdb(
		"info threads",
		"set scheduler-locking on",
		"thread 2",
		"stepi",
		"print $rax",
		"stepi",
		"stepi",
		"print $rax",
		"thread 1",
		"print/x $pc",
		"set scheduler-locking off",
		`hbreak *${ENDING}`,
		"continue",
		"thread",
		"thread apply all print $rax > 2",
		"delete",
		"detach",
	);
	expect(output).toMatch(/\* 1\s+Thread 1 "vCPU 0" .*\n\s+2\s+Thread 2 "vCPU 1"/);
	expect(output).toMatch(/\$1 = 1\n[\s\S]*\$2 = 2\n[\s\S]*\$3 = 0x1000000\n/);
	expect(output).toMatch(/Thread 1 "vCPU 0" hit Breakpoint 1/);
	await expect.poll(() => machine.memory.u32(COUNTER)).toBeGreaterThan(10);
});

test("gdb watches memory by steps, where it is told to take no debug register", async () => {
	await waiting(COUNT);
	const output = await runGdb(
		"set can-use-hw-watchpoints 0",
		`watch *(int *)${COUNTER}`,
		"continue",
		"continue",
		"delete",
		"kill",
	);
	expect(output).toMatch(
		/Watchpoint 1: \*\(int \*\)[\s\S]*Old value = 0\nNew value = 1\n[\s\S]*Old value = 1\nNew value = 2\n/,
	);
});

test("gdb interrupts a guest that runs, and hears of its end", async () => {
	const machine = await waiting(COUNT);
	const child = startGdb("continue", "set var $pc = 0x2000", "continue", "quit");
	const output = text(child.stdout!);
	await expect.poll(() => machine.memory.u32(COUNTER)).toBeGreaterThan(0);
	machine.memory.write(0x2000, Buffer.from(POWER_OFF));
	child.kill("SIGINT");
	expect(await output).toMatch(/received signal SIGINT[\s\S]*\[Inferior 1 \(.*\) exited normally\]/);
	expect((await machine.ended).reason).toBe("power-off");
});

test("gdb that is killed lets the guest run on without its breakpoints", async () => {
	const machine = await waiting(COUNT);
	const child = startGdb("set breakpoint always-inserted on", `break *${ENDING}`, "continue");
	await expect.poll(() => machine.memory.u8(TinyKernels.ENDING)).toBe(0xcc);
	await expect.poll(() => machine.state).toBe("paused");
	const gone = once(child, "exit");
	child.kill("SIGKILL");
	await gone;
	await expect.poll(() => machine.memory.u32(COUNTER)).toBeGreaterThan(10);
	expect(machine.memory.u8(TinyKernels.ENDING)).toBe(COUNT[0]);
});

test("a second client is turned away, and what is no gdb does not stop the guest", async () => {
	const machine = await waiting(COUNT);
	machine.resume();
	const [host, port] = server!.target.split(":") as [string, string];
	const client = connect(Number(port), host);
	client.write("POST / HTTP/1.1\r\n\r\n$k#6b");
	expect(await text(client)).toBe("");
	expect(machine.state).toBe("running");
	/* Whatever a client sends, the machine goes on: packets of every letter, with numbers that mean nothing. */
	const hostile = connect(Number(port), host);
	const letters = [..."!?ABCFGHIMPQRSTXZbcdegimpqrstvz"];
	const tails = [
		"",
		"0",
		"ffffffffffffffff,ffffffff",
		"0,0",
		"-1",
		"1,,",
		":;=",
		"g0",
		"Cont;s:99",
		"Cont;c:",
		"2,1,7",
	];
	for (const letter of letters) for (const tail of tails) hostile.write(encodePacket(`${letter}${tail}`));
	for (const name of ["Xfer:features:read:target.xml:ffff,ffffff", "Rcmd,zz", "Rcmd,77616c6b2078", "Supported"])
		hostile.write(encodePacket(`q${name}`));
	hostile.write(Buffer.alloc(1 << 20, "$"));
	hostile.end("$?#3f$?#00#\x03\x03");
	await text(hostile);
	await expect.poll(() => machine.state).toBe("running");
	const counted = machine.memory.u32(COUNTER);
	await expect.poll(() => machine.memory.u32(COUNTER)).not.toBe(counted);
	const first = connect(Number(port), host);
	first.write("$?#3f");
	await expect.poll(() => machine.state).toBe("paused");
	expect(await text(connect(Number(port), host))).toBe("");
	first.destroy();
	await expect.poll(() => machine.state).toBe("running");
});
