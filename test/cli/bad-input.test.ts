/*
 * Bad input to the real command line. Each case has the whole first line of standard error: what was attempted, and
 * what was found.
 */
import { execFileSync } from "node:child_process";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, test, vi } from "vitest";
import { elfImage } from "../boot/images.ts";
import { bundle, directory, expectError, type Setting, tsvmm, write } from "./tsvmm.ts";

/* Each start of tsvmm takes its time on a busy machine. */
vi.setConfig({ testTimeout: 60_000 });

beforeAll(bundle, 60_000);

const sparse = (name: string, sizeBytes: number) => (directory: string) => {
	writeFileSync(join(directory, name), "");
	truncateSync(join(directory, name), sizeBytes);
};
const fifo = (name: string) => (directory: string) => execFileSync("mkfifo", [join(directory, name)]);
const kernel = write("vmlinux", elfImage());

type Row = [
	what: string,
	args: string[],
	prepare: Setting["prepare"],
	code: string,
	message: string,
	hint?: string | undefined,
];

const kernels: Row[] = [
	[
		"a missing kernel",
		["--kernel", "k"],
		undefined,
		"ERR_KERNEL_OPEN",
		"Cannot open kernel k: no such file or directory",
		"Check the path of the kernel",
	],
	[
		"a kernel whose name would set the terminal's title",
		["--kernel", "\x1b]0;k\x07"],
		undefined,
		"ERR_KERNEL_OPEN",
		"Cannot open kernel \\x1b]0;k\\x07: no such file or directory",
		"Check the path of the kernel",
	],
	[
		"a directory as kernel",
		["--kernel", "k"],
		directory("k"),
		"ERR_KERNEL_OPEN",
		"Cannot open kernel k: it is a directory",
	],
	[
		"a FIFO as kernel",
		["--kernel", "k"],
		fifo("k"),
		"ERR_KERNEL_OPEN",
		"Cannot open kernel k: it is not a regular file",
	],
	[
		"an endless kernel",
		["--kernel", "/dev/zero"],
		undefined,
		"ERR_KERNEL_OPEN",
		"Cannot open kernel /dev/zero: it is not a regular file",
	],
	[
		"a missing initrd",
		["--kernel", "vmlinux", "--initrd", "i"],
		kernel,
		"ERR_INITRD_OPEN",
		"Cannot open initrd i: no such file or directory",
		"Check the path of the initrd",
	],
];

const MEMORY_HINT = "Give a whole number of MiB with a unit, as in 512M or 2G; a bare number is bytes";
const sizes: Row[] = [
	...(
		[
			["1M", "1"],
			["63M", "63"],
			["2T", "2097152"],
		] as const
	).map(
		([text, mib]): Row => [
			`memory of ${text}`,
			["--memory", text],
			undefined,
			"ERR_CONFIG_MEMORY",
			`Cannot give the machine ${mib} MiB of memory: 64 MiB to 1024 GiB are possible`,
			"Give --memory a number with a unit, as in --memory 512M",
		],
	),
	...["", "-5", "-512M", "1.5M", "512", "64k", "abc", "512Q", "99999999999999999999999T", "0x200M"].map(
		(text): Row => [
			`memory of "${text}"`,
			[`--memory=${text}`],
			undefined,
			"ERR_OPTION_MEMORY",
			`Cannot read memory size "${text}"`,
			MEMORY_HINT,
		],
	),
	...["0", "33", "999999999"].map(
		(text): Row => [
			`${text} vCPUs`,
			["--cpus", text],
			undefined,
			"ERR_CONFIG_CPUS",
			`Cannot give the machine ${text} vCPUs: 1 to 32 are possible`,
		],
	),
	...["", "-1", "1.5", "two", "1e9", "99999999999999999999"].map(
		(text): Row => [
			`"${text}" vCPUs`,
			[`--cpus=${text}`],
			undefined,
			"ERR_OPTION_CPUS",
			`Cannot read number of vCPUs "${text}": a whole number is wanted`,
		],
	),
];

const DISK_FIELDS = "Choose from ro, rw, id=NAME, format=raw|qcow2, direct=on|off, queues=N";
const devices: Row[] = [
	["a missing disk", ["--disk", "d"], undefined, "ERR_DISK_OPEN", "Cannot open disk d: no such file or directory"],
	["a directory as disk", ["--disk", "d"], directory("d"), "ERR_DISK_OPEN", "Cannot open disk d: it is a directory"],
	[
		"a FIFO as disk",
		["--disk", "d"],
		fifo("d"),
		"ERR_DISK_OPEN",
		"Cannot open disk d: it is neither a file nor a block device",
	],
	[
		"a disk of zero bytes",
		["--disk", "d"],
		write("d", ""),
		"ERR_DISK_SIZE",
		"Cannot use disk d: its 0 bytes hold no sector of 512 bytes",
		"Make an empty disk of 1 GiB: truncate -s 1G d",
	],
	[
		"a disk given twice",
		["--disk", "d", "--disk", "d"],
		sparse("d", 4096),
		"ERR_DISK_LOCKED",
		"Cannot open disk d: a machine uses it already",
		"Stop that machine, or give the disk with ,ro to all of them",
	],
	["a disk without a path", ["--disk", ""], undefined, "ERR_OPTION_DISK", 'Cannot read disk "": it has no path'],
	...["foo", "id=", "ro=1"].map(
		(field): Row => [
			`a disk with ${field}`,
			["--disk", `d,${field}`],
			undefined,
			"ERR_OPTION_DISK",
			`Cannot read disk "d,${field}": "${field}" is not known`,
			DISK_FIELDS,
		],
	),
	[
		"a disk id of 21 bytes",
		["--disk", `d,id=${"x".repeat(21)}`],
		undefined,
		"ERR_CONFIG_DISK",
		`Cannot use disk id "${"x".repeat(21)}": it is longer than 20 bytes`,
	],
	[
		"17 disks",
		Array.from({ length: 17 }, () => ["--disk", "d,ro"]).flat(),
		sparse("d", 4096),
		"ERR_TOO_MANY_DEVICES",
		"Cannot place virtio device number 17: the machine has 16 slots",
	],
	[
		"a tap that does not exist",
		["--net", "tap=tsvmm-no-tap"],
		undefined,
		"ERR_TAP_MISSING",
		"Cannot use tap tsvmm-no-tap: there is no such interface",
		"Make it as root: ip tuntap add tsvmm-no-tap mode tap",
	],
	[
		"an interface that is no tap",
		["--net", "tap=lo"],
		undefined,
		"ERR_TAP",
		"Cannot use tap lo: TUNSETIFF failed with EINVAL",
		"Check that lo is a tap, and without multi_queue",
	],
	[
		"a tap with a long name",
		["--net", "tap=abcdefghijklmnop"],
		undefined,
		"ERR_TAP_NAME",
		'Cannot use tap "abcdefghijklmnop": an interface name has 1 to 15 plain characters',
	],
	[
		"a MAC address of letters",
		["--net", "tap=x,mac=zz"],
		undefined,
		"ERR_CONFIG_NET",
		'Cannot use MAC address "zz": six hexadecimal bytes with colons are wanted',
	],
	[
		"a MAC address of zeroes",
		["--net", "tap=x,mac=00:00:00:00:00:00"],
		undefined,
		"ERR_CONFIG_NET",
		'Cannot use MAC address "00:00:00:00:00:00": it is no address of an interface',
	],
	[
		"a vsock path in a missing directory",
		["--vsock", "cid=3,uds=no/v.sock"],
		undefined,
		"ERR_SOCKET",
		"Cannot listen on no/v.sock: no: no such file or directory",
	],
	[
		"a vsock path that is too long",
		["--vsock", `cid=3,uds=${"v".repeat(108)}`],
		undefined,
		"ERR_SOCKET",
		`Cannot listen on ${"v".repeat(108)}: the path has 108 bytes, a socket's takes 107`,
	],
	[
		"a vsock path that is a file",
		["--vsock", "cid=3,uds=v"],
		write("v", "precious"),
		"ERR_SOCKET",
		"Cannot listen on v: a file that is no socket is there",
	],
	[
		"the host's vsock cid",
		["--vsock", "cid=2,uds=v"],
		undefined,
		"ERR_CONFIG_VSOCK",
		"Cannot use vsock cid 2: 3 to 4294967294 are possible",
	],
	...["cid=3", "uds=v", "cid=3,cid=4,uds=v", "cid=x,uds=v", ""].map(
		(text): Row => [
			`vsock "${text}"`,
			["--vsock", text],
			undefined,
			"ERR_OPTION_VSOCK",
			`Cannot read vsock "${text}"`,
			"Write cid=3,uds=PATH",
		],
	),
	[
		"a console file in a missing directory",
		["--console", "file=no/c"],
		undefined,
		"ERR_CONSOLE_OPEN",
		"Cannot open console file no/c: no such file or directory",
	],
	[
		"a directory as console file",
		["--console", "file=c"],
		directory("c"),
		"ERR_CONSOLE_OPEN",
		"Cannot open console file c: is a directory",
	],
	[
		"a FIFO as console file that nobody reads",
		["--console", "file=c"],
		fifo("c"),
		"ERR_CONSOLE_OPEN",
		"Cannot open console file c: nobody reads from this FIFO",
	],
	...["file=", "tty", ""].map(
		(text): Row => [
			`console "${text}"`,
			["--console", text],
			undefined,
			"ERR_OPTION_CONSOLE",
			`Cannot read console "${text}"`,
			"Write stdio, none or file=PATH",
		],
	),
	[
		"an unknown trace",
		["--trace", "pio,dma"],
		undefined,
		"ERR_OPTION_TRACE",
		'Cannot trace "dma"',
		"Choose from pio, mmio, exits, queues, interrupts, status, console, boot, agent, devices such as blk0, net, serial, or all",
	],
];

describe.concurrent("tsvmm boot", () => {
	test.each(kernels)("boot refuses %s", async (_what, args, prepare, code, message, hint) => {
		const outcome = await tsvmm(["boot", "--console", "none", ...args], prepare ? { prepare } : {});
		expectError(outcome, code, message, hint);
	});

	test.each([...sizes, ...devices])("boot refuses %s", async (_what, args, prepare, code, message, hint) => {
		const defaults = args[0] === "--console" ? [] : ["--console", "none"];
		expectError(
			await tsvmm(["boot", "--kernel", "k", ...defaults, ...args], prepare ? { prepare } : {}),
			code,
			message,
			hint,
		);
	});

	test("boot wants a kernel", async () => {
		for (const args of [["boot"], ["boot", "--kernel", ""]]) {
			expectError(
				await tsvmm(args),
				"ERR_OPTION_KERNEL",
				"Cannot boot without a kernel: --kernel FILE is missing",
				"Get one: tsvmm kernel fetch; see where it is: tsvmm kernel ls",
			);
		}
	});

	test("boot refuses a host that it does not know", async () => {
		expectError(
			await tsvmm(["boot", "--kernel", "k"], { env: { TSVMM_HOST: "cloud" } }),
			"ERR_HOST_CHOICE",
			"Cannot use TSVMM_HOST=cloud: direct, lab or auto are possible",
		);
	});
});
