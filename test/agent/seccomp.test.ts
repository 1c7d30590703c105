/*
 * linux.seccomp from config.json to the kernel: compiled by libseccomp, loaded by the real agent, and seen by a process.
 */
import { expect, test } from "vitest";
import { ExecError } from "../../src/agent/client.ts";
import type { ExecSpec } from "../../src/agent/exec-spec.ts";
import { exitStatus } from "../../src/agent/session.ts";
import { compileSeccomp, Seccomp } from "../../src/oci/seccomp.ts";
import { startedAgent } from "./native-agent.ts";

const native = startedAgent();

const compile = (seccomp: unknown) => compileSeccomp(Seccomp.parse(seccomp));
/** All is permitted but what the rules say. */
const deny = (...syscalls: unknown[]) => ({ defaultAction: "SCMP_ACT_ALLOW", syscalls });

async function sh(script: string, seccomp: unknown, spec: Partial<ExecSpec> = {}) {
	const args = ["perl", "-e", script];
	const env = { PATH: "/usr/bin:/bin", LC_ALL: "C" };
	const session = await native.client.exec({ args, env, seccomp: compile(seccomp), ...spec });
	const [out, error] = await Promise.all([session.stdout.toArray(), session.stderr.toArray()]);
	return { status: exitStatus(await session.exit), output: Buffer.concat([...out, ...error]).toString() };
}

const MKDIR = 'mkdir("/proc/none") or print $!+0';
const RULE = { names: ["mkdir", "mkdirat"], action: "SCMP_ACT_ERRNO" };

test("a system call is refused with the error that the rule names, or EPERM", async () => {
	expect(await sh(MKDIR, deny(RULE))).toEqual({ status: 0, output: "1" });
	expect(await sh(MKDIR, deny({ ...RULE, errnoRet: 77 }))).toEqual({ status: 0, output: "77" });
	expect(await sh(MKDIR, deny({ ...RULE, names: ["rmdir"] }))).toEqual({ status: 0, output: "2" });
});
test("a process is killed, or gets SIGSYS", async () => {
	expect((await sh(MKDIR, deny({ ...RULE, action: "SCMP_ACT_KILL_PROCESS" }))).status).toBe(159);
	expect(await sh(`$SIG{SYS} = sub { print "trapped" }; ${MKDIR}`, deny({ ...RULE, action: "SCMP_ACT_TRAP" }))).toEqual(
		expect.objectContaining({ output: expect.stringContaining("trapped") }),
	);
});
test("arguments are compared: several of one argument are alternatives, others must all hold", async () => {
	const equal = (index: number, value: number) => ({ index, value, op: "SCMP_CMP_EQ" });
	/* getpriority is number 140; its arguments are not looked at here. */
	const calls =
		'for my $args ([0, 0], [1, 0], [2, 0], [1, 5]) { $! = 0; syscall(140, @$args); print $! == 77 ? "no " : "yes " }';
	const rule = { names: ["getpriority"], action: "SCMP_ACT_ERRNO", errnoRet: 77 };
	expect((await sh(calls, deny({ ...rule, args: [equal(0, 1), equal(0, 2)] }))).output).toBe("yes no no no ");
	expect((await sh(calls, deny({ ...rule, args: [equal(0, 1), equal(1, 5)] }))).output).toBe("yes yes yes no ");
	const masked = { index: 1, value: 4, valueTwo: 4, op: "SCMP_CMP_MASKED_EQ" };
	expect((await sh(calls, deny({ ...rule, args: [masked] }))).output).toBe("yes yes yes no ");
});
test("with and without no_new_privs, also for another user without capabilities", async () => {
	for (const noNewPrivileges of [true, false])
		for (const user of ["0:0", "1000:1000"]) {
			const spec = { noNewPrivileges, user, capabilities: 0n, onlyGroups: true };
			expect(await sh(MKDIR, deny(RULE), spec)).toEqual({ status: 0, output: "1" });
			const { output } = await sh("print grep(/^Seccomp:/, `cat /proc/self/status`)", deny(RULE), spec);
			expect(output).toBe("Seccomp:\t2\n");
		}
});
test("a container's first process has it, and what it starts", async () => {
	await native.client.setup([], "filtered");
	const script = `system("perl", "-e", '${MKDIR}')`;
	expect(await sh(script, deny(RULE), { container: "filtered", init: true })).toEqual({ status: 0, output: "1" });
});
test("a call that is newer than those of a list of permitted ones is not there (ENOSYS)", async () => {
	/* All but a few, by name: what perl needs. The newest of them is close_range, 436. */
	const names = [
		...[
			"execve",
			"brk",
			"mmap",
			"munmap",
			"mprotect",
			"read",
			"write",
			"close",
			"openat",
			"open",
			"newfstatat",
			"fstat",
		],
		...[
			"stat",
			"pread64",
			"arch_prctl",
			"set_tid_address",
			"set_robust_list",
			"rseq",
			"prlimit64",
			"getrandom",
			"access",
		],
		...["readlink", "rt_sigaction", "rt_sigprocmask", "ioctl", "lseek", "getuid", "geteuid", "getgid", "getegid"],
		...["fcntl", "exit_group", "close_range", "futex", "sysinfo", "gettid", "setuid", "setgid", "setgroups", "fchown"],
		...["capget", "capset", "prctl", "chdir", "umask", "seccomp", "dup2", "times", "clock_gettime", "no_such_call"],
	];
	const profile = { defaultAction: "SCMP_ACT_ERRNO", syscalls: [{ names, action: "SCMP_ACT_ALLOW" }] };
	const calls = "for (83, 9999) { $! = 0; syscall($_, 0, 0); print $! + 0, q( ) }";
	expect(await sh(calls, profile)).toEqual({ status: 0, output: "1 38 " });
	expect((await sh(calls, { ...profile, defaultErrnoRet: 77 })).output).toBe("77 38 ");
	expect((await sh(calls, { ...profile, defaultErrnoRet: 38 })).output).toBe("38 38 ");
});
test("32-bit programs have the rules of their architecture", () => {
	const both = { ...deny(RULE), architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"] };
	expect(compile(both).program.length).toBeGreaterThan(compile(deny(RULE)).program.length);
	expect(compile({ ...deny(RULE), flags: ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"] }).flags).toBe(
		6,
	);
});
test.each([
	[{ defaultAction: "SCMP_ACT_NONE" }, "string SCMP_ACT_NONE is not a valid action"],
	[{ defaultAction: "toString" }, "string toString is not a valid action"],
	[{ defaultAction: "SCMP_ACT_ALLOW", architectures: ["SCMP_ARCH_VAX"] }, "string SCMP_ARCH_VAX is not a valid arch"],
	[{ defaultAction: "SCMP_ACT_ALLOW", flags: ["FAST"] }, "string FAST is not a valid flag"],
	[deny({ names: ["mkdir"], action: "SCMP_ACT_NOTIFY" }), "a listener on the host cannot answer"],
])("%j is refused", (seccomp, message) => {
	expect(() => compile(seccomp)).toThrow(message);
});
test("the agent refuses what is no filter", async () => {
	const spec = { args: ["true"], env: { PATH: "/usr/bin:/bin" } };
	for (const program of [Buffer.alloc(0), Buffer.alloc(7), Buffer.alloc(8, 0xff), Buffer.alloc(8 * 4097)]) {
		const refused = native.client.exec({ ...spec, seccomp: { flags: 0, program } });
		await expect(refused).rejects.toThrow(ExecError);
		await expect(refused).rejects.toThrow("Cannot load the filter for system calls: Invalid argument");
	}
});
