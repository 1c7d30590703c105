/*
 * A guest ends by itself, by a crash, or because its user ends it. tsvmm reports which, and leaves nothing behind.
 */
import { constants } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { Linux, type RunningLinux } from "./linux.ts";

const { SIGINT, SIGKILL, SIGTERM } = constants.signals;
const kernel = "minimal";
let linux: Linux;
/** What is in the lab before the first guest. */
let clean: string;

/** Processes of guests, taps, sockets and files of tsvmm in the lab. */
const LEFT = `
ps -eo args= | grep -E '[t]svmm.js boot|[p]asst ' | sed 's/^/process /'
ls /sys/class/net
ls -A /run/tsvmm 2>/dev/null
ls /run/*.sock* 2>/dev/null
true
`;

beforeAll(async () => {
	linux = await Linux.up();
	/* The first boot makes the runtime directory. */
	await linux.check({ kernel, script: "true" });
	clean = await linux.sh(LEFT);
});
afterAll(async () => {
	await linux?.down();
});
afterEach(async () => {
	let left = "";
	for (let turn = 0; turn < 10; turn++) {
		left = await linux.sh(LEFT);
		if (left === clean) break;
		await sleep(200);
	}
	expect(left, "what the guest has left").toBe(clean);
});

/** A guest that never ends by itself, once it runs its script. */
async function endless(
	options: { args?: string[]; tty?: { columns: number; rows: number } } = {},
): Promise<RunningLinux> {
	const guest = await linux.spawn({ kernel, cpus: 2, script: "echo ready; while :; do :; done", ...options });
	await guest.shows("ready");
	return guest;
}

describe("a guest", () => {
	test("that powers off ends with 0", async () => {
		const { status, stderr } = await linux.boot({ kernel, script: "poweroff -f" });
		expect({ status, stderr }).toEqual({ status: 0, stderr: "tsvmm: guest powered off\n" });
	});

	test("that reboots ends with 0, as a reset", async () => {
		const { status, stderr } = await linux.boot({ kernel, script: "reboot -f" });
		expect({ status, stderr }).toEqual({ status: 0, stderr: "tsvmm: guest asked for a reset\n" });
	});

	test.each(["6.1-cloud", "6.12-cloud"] as const)(
		"whose %s kernel crashes ends with 101 and the panic",
		async (which) => {
			const { status, stderr } = await linux.boot({ kernel: which, script: "echo c >/proc/sysrq-trigger" });
			expect(stderr).toBe("tsvmm: guest kernel panic: sysrq triggered crash [ERR_GUEST_PANIC]\n");
			expect(status).toBe(101);
		},
	);

	test("whose init exits ends with 101, and --json says why", async () => {
		/* busybox without an applet's name prints its usage and exits. */
		const init = "rdinit=/bin/busybox";
		const { status, stderr } = await linux.boot({ kernel, script: "", cmdline: init, args: ["--json"] });
		expect(status).toBe(101);
		const end = JSON.parse(stderr);
		expect(end.reason).toBe("panic");
		expect(end.detail).toMatch(/^Attempted to kill init! exitcode=0x0000[0-9a-f]{4}$/);
	});

	test("that triple-faults ends with 102", async () => {
		const { status, stderr } = await linux.boot({ kernel, script: "reboot -f", cmdline: "reboot=t" });
		expect(stderr).toMatch(/^tsvmm: guest triple fault: vCPU 0.* \[ERR_GUEST_TRIPLE_FAULT\]\n$/);
		expect(status).toBe(102);
	});
});

describe("--explain of a guest", () => {
	test.each([
		["has another root than it was given", "wrong-root", { script: "", cmdline: "rdinit=/none root=/dev/vdz" }],
		["has an init that exits", "init-ended", { script: "", cmdline: "rdinit=/bin/busybox" }],
		["has too little memory", "no-memory", { script: "tail /dev/zero; true" }],
		["crashes", "panic", { script: "echo c >/proc/sysrq-trigger", kernel: "6.12-cloud" as const }],
	])("that %s names the cause: %s", async (_, cause, options) => {
		const { stderr } = await linux.boot({ kernel, args: ["--explain"], ...options });
		expect(stderr).toContain(` [${cause}]\n`);
		/* Where it stood. The kernel has reset the vCPU when its panic is told. */
		expect(stderr).toMatch(/vCPU 0 .* at 0x[0-9a-f]+/);
		expect(stderr).toMatch(/names from .*\/vmlinux(?:\.debug)?, not moved: MSR_LSTAR is entry_SYSCALL_64$/m);
	});

	/* Debian's kernels have no symbols but their own kallsyms, and a bzImage moves. */
	test("that idles in a bzImage names the function, and how far the kernel has moved", async () => {
		const script = "echo ready; sleep 1000";
		const guest = await linux.spawn({ kernel: "6.1-cloud", bzImage: true, args: ["--explain"], script });
		await guest.shows("ready");
		await sleep(2000);
		guest.signal(SIGTERM);
		const { stderr } = await guest.ended();
		expect(stderr).toMatch(/moved by 0x[1-9a-f][0-9a-f]*00000: MSR_LSTAR is entry_SYSCALL_64$/m);
		expect(stderr).toMatch(/^ +vCPU 0 halted at 0x[0-9a-f]{16} \w*(?:idle|halt)\w*\+0x[0-9a-f]+, interrupts on/m);
	});

	test("that is well finds nothing, and has its phases", async () => {
		const { stderr, status } = await linux.boot({
			kernel,
			args: ["--explain"],
			script: "poweroff -f",
			cmdline: "loglevel=7",
		});
		expect(stderr).toContain("nothing is wrong that the events show");
		for (const phase of ["entry", "kernel", "command line", "memory", "driver ready", "init"]) {
			expect(stderr).toMatch(new RegExp(`^ +\\d+\\.\\d+ s {2}${phase}`, "m"));
		}
		expect(status).toBe(0);
	});
});

describe("the user", () => {
	test.each([
		["SIGTERM", SIGTERM],
		["SIGINT", SIGINT],
	])("ends a spinning guest by %s", async (_name, signal) => {
		const guest = await endless();
		const start = performance.now();
		guest.signal(signal);
		const { status, stderr } = await guest.ended();
		expect(performance.now() - start).toBeLessThan(10_000);
		expect({ status, stderr }).toEqual({ status: 0, stderr: "tsvmm: machine stopped\n" });
	});

	test("ends a guest by Ctrl-A x, and has the terminal back as it was", async () => {
		const command = await linux.command({ kernel, script: "echo ready; while :; do :; done" });
		const quoted = command.map((word) => `'${word}'`).join(" ");
		const script = `stty -a >before; ${quoted}; echo "status $?"; stty -a >after; cmp before after && echo same`;
		const session = await linux.lab.spawn(["sh", "-c", script], {
			cwd: linux.directory,
			tty: { columns: 80, rows: 25 },
		});
		let shown = "";
		session.stdout.on("data", (chunk: Buffer) => {
			if (!shown.includes("ready\r\n") && `${shown}${chunk}`.includes("ready\r\n")) session.stdin.write("\x01x");
			shown += chunk;
		});
		expect(await session.exit).toEqual({ code: 0 });
		expect(shown).toMatch(/ready\r\n(?:.*\r\n)*?tsvmm: machine stopped\r\nstatus 0\r\nsame\r\n$/);
	});

	test("may kill tsvmm: no passt, no socket and no memory is left", async () => {
		const guest = await endless({ args: ["--net", "user", "--vsock", "cid=3,uds=/dev/shm/killed.sock"] });
		expect(await linux.sh(LEFT)).toMatch(/^process \S*passt -f/m);
		guest.signal(SIGKILL);
		expect((await guest.ended()).status).toBe(128 + SIGKILL);
		/* A killed process leaves its socket's file. The next machine takes it over. */
		const args = ["--net", "user", "--vsock", "cid=3,uds=/dev/shm/killed.sock"];
		const { status } = await linux.boot({ kernel, script: "true", args });
		expect(status).toBe(0);
		expect(await linux.sh("ls /dev/shm")).toBe("");
	});
});
