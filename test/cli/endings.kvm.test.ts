/*
 * The real command line with kernels of a few instructions that end in every way, with streams that are closed or full,
 * beside another tsvmm. Needs /dev/kvm, and root for a disk that is full.
 */
import { mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { totalmem } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { elfImage } from "../boot/images.ts";
import { bundle, type Setting, tsvmm } from "./tsvmm.ts";

/* Each start of tsvmm takes its time on a busy machine. */
vi.setConfig({ testTimeout: 120_000 });

beforeAll(bundle, 60_000);
const isRoot = process.getuid!() === 0;

const BASE = 0x1000000;
const outb = (port: number, value: number) => [0x66, 0xba, port & 0xff, port >> 8, 0xb0, value, 0xee];
const POWER_OFF = outb(0x600, 0x34);
const RESET = outb(0x64, 0xfe);
/* Loads a bad selector without an IDT. */
const TRIPLE_FAULT = [0xb8, 0xff, 0xff, 0, 0, 0x8e, 0xd8];
const SPIN = [0xeb, 0xfe];
/* From the start: COM1 never falls silent. */
const AGAIN = [0xe9, ...int32(-22)];

function int32(value: number): number[] {
	const bytes = Buffer.alloc(4);
	bytes.writeInt32LE(value);
	return [...bytes];
}

/** Writes 32-bit code that prints `text` on COM1, then runs `ending`, as the kernel "k". */
function kernel(text: string, ending: readonly number[]): (directory: string) => void {
	const code = [0xbe, 0, 0, 0, 0, 0x66, 0xba, 0xf8, 0x03, 0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8];
	code.push(...ending, 0xf4, 0xeb, 0xfd);
	const image = Buffer.concat([Buffer.from(code), Buffer.from(`${text}\0`)]);
	image.writeUInt32LE(BASE + code.length, 1);
	return (directory) => writeFileSync(join(directory, "k"), elfImage({ paddr: BASE, code: image, pvhEntry: BASE }));
}

/** Puts a shell before the command: `"$@"` in the script is tsvmm. */
const shell = (script: string) => ["bash", "-c", script, "bash"];
/** The same, in a mount namespace of its own. */
const host = (script: string) => ["unshare", "-m", ...shell(script)];

const boot = (args: readonly string[], setting: Setting) =>
	tsvmm(["boot", "--kernel", "k", "--memory", "64M", ...args], setting);

describe("tsvmm boot", () => {
	test.each([
		["power-off", kernel("hi\n", POWER_OFF), 0, "tsvmm: guest powered off\n"],
		["a reset", kernel("hi\n", RESET), 0, "tsvmm: guest asked for a reset\n"],
		[
			"a panic",
			kernel("hi\nKernel panic - not syncing: no root\n", RESET),
			101,
			"tsvmm: guest kernel panic: no root [ERR_GUEST_PANIC]\n",
		],
		[
			"a triple fault",
			kernel("hi\n", TRIPLE_FAULT),
			102,
			expect.stringMatching(/^tsvmm: guest triple fault.* \[ERR_GUEST_TRIPLE_FAULT\]\n$/),
		],
	])("boot tells %s by its exit status", async (_what, prepare, status, stderr) => {
		const outcome = await boot([], { prepare });
		expect(outcome).toMatchObject({ status, stdout: expect.stringMatching(/^hi\n/), stderr, left: [] });
	});
	test("boot --timings names the phases from its start to the first byte that is not the kernel's", async () => {
		const log = "[    0.010000] Memory: 1K/2K available\n[    0.020000] Run /init as init process\n";
		const prepare = kernel(`${log}hi\n`, POWER_OFF);
		const begun = performance.now();
		const { status, stdout, stderr } = await boot(["--timings", "--json"], { prepare });
		const tookMs = performance.now() - begun;
		expect({ status, stdout }).toEqual({ status: 0, stdout: `${log}hi\n` });
		const { reason, timings } = JSON.parse(stderr);
		expect(reason).toBe("power-off");
		const names = timings.phases.map((phase: { name: string }) => phase.name);
		const host = ["exec", "node", "bundle", "command", "memory", "files", "kvm", "vm", "devices", "load", "vcpus"];
		expect(names.slice(0, 11)).toEqual(host);
		const guest = ["start", "kernel entry", "kernel memory", "kernel init", "first byte"];
		expect(names.slice(11).sort()).toEqual(guest.sort());
		const sum = timings.phases.reduce((all: number, { ms }: { ms: number }) => all + ms, 0);
		expect(sum).toBeCloseTo(timings.totalMs, 3);
		/* The start is known to 10 ms, and so is the clock that it is compared with. */
		expect(timings.totalMs).toBeLessThan(tookMs + 21);
		expect(timings.totalMs).toBeGreaterThan(20);
		const line = await boot(["--timings"], { prepare: kernel("hi\n", POWER_OFF) });
		expect(line.stderr).toMatch(
			/^tsvmm: exec [\d.]+ ms, node .*, first byte [\d.]+ ms, total [\d.]+ ms\ntsvmm: guest powered off\n$/,
		);
	});

	test("boot --json tells the end as JSON on stderr, boot -q nothing", async () => {
		const prepare = kernel("", POWER_OFF);
		const json = await boot(["--json"], { prepare });
		expect([json.status, JSON.parse(json.stderr)]).toEqual([0, { reason: "power-off" }]);
		expect(await boot(["-q"], { prepare })).toEqual({ status: 0, stdout: "", stderr: "", left: [] });
	});

	test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)("boot stops its machine on %s", async (signal) => {
		let sent = false;
		const outcome = await boot(["--vsock", "cid=3,uds=v"], {
			prepare: kernel("up", SPIN),
			onOutput: (stdout, _stderr, kill) => {
				if (stdout === "up" && !sent) kill(signal);
				sent ||= stdout === "up";
			},
		});
		expect(outcome).toEqual({ status: 0, stdout: "up", stderr: "tsvmm: machine stopped\n", left: [] });
	});

	test("boot ends when nobody reads the console any more", async () => {
		const outcome = await boot([], {
			prepare: kernel("line\n", AGAIN),
			through: shell('"$@" | head -c 5; exit $' + "{PIPESTATUS[0]}"),
		});
		expect(outcome).toEqual({ status: 141, stdout: "line\n", stderr: "tsvmm: machine stopped\n", left: [] });
	});

	test("boot ends when the console's disk is full", async () => {
		const outcome = await boot([], { prepare: kernel("line\n", AGAIN), through: shell('exec "$@" >/dev/full') });
		expect(outcome).toMatchObject({ status: 125, stdout: "", left: [] });
		expect(outcome.stderr.split("\n")[0]).toBe(
			"tsvmm: error: Cannot write standard output: no space left on device [ERR_OUTPUT]",
		);
	});

	test("boot works without standard input, and without standard error", async () => {
		const prepare = kernel("hi\n", POWER_OFF);
		for (const script of ['exec "$@" <&-', 'exec "$@" 2>&-', 'exec "$@" 2>/dev/full']) {
			expect(await boot([], { prepare, through: shell(script) }), script).toMatchObject({ status: 0, stdout: "hi\n" });
		}
	});

	test("boot refuses a disk and a socket that another machine uses", async () => {
		const others: Promise<{ status: number | "hung"; stderr: string }>[] = [];
		let directory = "";
		await boot(["--disk", "disk", "--vsock", "cid=3,uds=v"], {
			prepare: (where) => {
				directory = where;
				kernel("up", SPIN)(where);
				writeFileSync(join(where, "disk"), "");
				truncateSync(join(where, "disk"), 4096);
			},
			onOutput: (stdout, _stderr, kill) => {
				if (stdout !== "up" || others.length > 0) return;
				const prepare = kernel("", POWER_OFF);
				others.push(
					boot(["--disk", join(directory, "disk")], { prepare }),
					boot(["--disk", `${join(directory, "disk")},ro`], { prepare }),
					boot(["--vsock", `cid=3,uds=${join(directory, "v")}`], { prepare }),
				);
				void Promise.all(others).then(() => kill("SIGTERM"));
			},
		});
		const [first, second, third] = await Promise.all(others);
		for (const outcome of [first!, second!]) {
			expect(outcome.status).toBe(125);
			expect(outcome.stderr).toMatch(
				/^tsvmm: error: Cannot open disk .*: a machine uses it already \[ERR_DISK_LOCKED\]/,
			);
		}
		expect(third!.status).toBe(125);
		expect(third!.stderr).toMatch(
			/^tsvmm: error: Cannot listen on .*: another process listens there \[ERR_SOCKET_IN_USE\]\n {2}hint: /,
		);
	});

	test("boot refuses to forward a port that is in use", async () => {
		const server = createServer();
		await new Promise<void>((resolve) => server.listen(0, "0.0.0.0", resolve));
		try {
			const { port } = server.address() as { port: number };
			const outcome = await boot(["--net", `user,port=${port}:80`], { prepare: kernel("", POWER_OFF) });
			expect(outcome).toEqual({
				status: 125,
				stdout: "",
				stderr: `tsvmm: error: Cannot forward tcp port ${port}: the port is in use [ERR_PORT_IN_USE]\n  hint: See who has it: ss -lp 'sport = :${port}'\n`,
				left: [],
			});
		} finally {
			server.close();
		}
	});

	test("boot gives a guest more memory than the host has, or says that it cannot", async () => {
		const prepare = kernel("hi\n", POWER_OFF);
		const memoryGiB = 2 * Math.ceil(totalmem() / 2 ** 30);
		const outcome = await tsvmm(["boot", "--kernel", "k", "--memory", `${memoryGiB}G`], { prepare });
		if (outcome.status === 0) expect(outcome.stdout).toBe("hi\n");
		else expect(outcome.stderr).toMatch(/^tsvmm: error: Cannot map \d+ MiB of guest memory: .* \[ERR_RAM_MAP\]\n/);
	});

	test.runIf(isRoot)("boot goes on when the console file's disk is full", async () => {
		const outcome = await boot(["--console", "file=full/console"], {
			prepare: (directory) => {
				kernel("line\n".repeat(100), POWER_OFF)(directory);
				mkdirSync(join(directory, "full"));
			},
			through: host('mount -t tmpfs -o size=4k none full && head -c 4096 /dev/zero >full/pad && exec "$@"'),
		});
		expect(outcome).toEqual({ status: 0, stdout: "", stderr: "tsvmm: guest powered off\n", left: [] });
	});
});
