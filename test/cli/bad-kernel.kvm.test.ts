/*
 * Kernels, initrds and command lines that cannot be used. A machine reads them once it has opened /dev/kvm. Each case
 * has the whole first line of standard error, as in bad-input.test.ts.
 */
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { elfImage } from "../boot/images.ts";
import { bundle, expectError, type Setting, tsvmm, write } from "./tsvmm.ts";

/* Each start of tsvmm takes its time on a busy machine. */
vi.setConfig({ testTimeout: 120_000 });

beforeAll(bundle, 60_000);

const kernel = write("vmlinux", elfImage());
const arm = elfImage();
arm.writeUInt16LE(183, 18);

const sparse = (name: string, sizeBytes: number) => (directory: string) => {
	writeFileSync(join(directory, name), "");
	truncateSync(join(directory, name), sizeBytes);
};

describe("tsvmm boot", () => {
	test.each<[what: string, args: string[], prepare: Setting["prepare"], code: string, message: string, hint?: string]>([
		[
			"a kernel of zero bytes",
			["--kernel", "k"],
			write("k", ""),
			"ERR_KERNEL_FORMAT",
			"Cannot load kernel k: neither an ELF vmlinux nor a bzImage: found an empty file",
		],
		[
			"a script as kernel",
			["--kernel", "k"],
			write("k", "#!/bin/sh\n"),
			"ERR_KERNEL_FORMAT",
			"Cannot load kernel k: neither an ELF vmlinux nor a bzImage: found a script",
		],
		[
			"an empty disk image as kernel",
			["--kernel", "k"],
			sparse("k", 2 ** 33),
			"ERR_KERNEL_FORMAT",
			"Cannot load kernel k: neither an ELF vmlinux nor a bzImage: found only zero bytes",
		],
		[
			"a truncated kernel",
			["--kernel", "k"],
			write("k", elfImage().subarray(0, 1000)),
			"ERR_KERNEL_TRUNCATED",
			"Cannot load kernel k: the file is truncated: a segment needs 8388 bytes, the file has 1000",
			"Copy or download it again",
		],
		[
			"a kernel for another processor",
			["--kernel", "k"],
			write("k", arm),
			"ERR_KERNEL_ARCH",
			"Cannot load kernel k: found ELF for aarch64, need x86-64",
		],
		[
			"an initrd of zero bytes",
			["--kernel", "vmlinux", "--initrd", "i"],
			(directory) => {
				kernel(directory);
				write("i", "")(directory);
			},
			"ERR_INITRD_OPEN",
			"Cannot load initrd i: it is an empty file",
		],
		[
			"an initrd larger than RAM",
			["--kernel", "vmlinux", "--initrd", "i"],
			(directory) => {
				kernel(directory);
				sparse("i", 2 ** 40)(directory);
			},
			"ERR_INITRD_TOO_BIG",
			"Cannot load initrd i: it needs 1099511627776 bytes, the guest has 520081408 bytes above its kernel",
			"Give the guest more memory",
		],
		[
			"an endless command line",
			["--kernel", "vmlinux", "--cmdline", "a".repeat(65536)],
			kernel,
			"ERR_CMDLINE_TOO_LONG",
			expect.stringMatching(/^Cannot use the kernel command line: it has 65\d\d\d bytes, the kernel takes 2047$/),
		],
		[
			"a command line with umlauts",
			["--kernel", "vmlinux", "--cmdline", "a=ü"],
			kernel,
			"ERR_CMDLINE",
			'Cannot use the kernel command line: character "ü" at position 3 is not printable ASCII',
		],
	])("boot refuses %s", async (_what, args, prepare, code, message, hint) => {
		const outcome = await tsvmm(["boot", "--console", "none", ...args], prepare ? { prepare } : {});
		if (typeof message === "string") expectError(outcome, code, message, hint);
		else {
			expect(outcome).toMatchObject({ status: 125, stdout: "", left: [] });
			const text = /^tsvmm: error: (.*) \[(ERR_.*)\]\n$/.exec(outcome.stderr);
			expect([text?.[1], text?.[2]]).toEqual([message, code]);
		}
	});
});
