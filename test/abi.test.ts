/*
 * The declared layouts, ioctl numbers and constants against the real C headers: a C program made from our own tables
 * prints what the compiler says, and both must agree in every line.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import * as ifreq from "../src/backends/ifreq.ts";
import type { Layout } from "../src/base/struct.ts";
import * as elf from "../src/boot/elf.ts";
import * as coreNotes from "../src/debug/core-notes.ts";
import * as symbols from "../src/debug/symbols/elf.ts";
import * as fileCalls from "../src/host/file-calls.ts";
import * as fileLock from "../src/host/file-lock.ts";
import * as nativeContract from "../src/host/native.ts";
import * as statx from "../src/host/statx.ts";
import * as syscallNumbers from "../src/host/syscall-numbers.ts";
import * as constants from "../src/kvm/constants.ts";
import { IOCTL } from "../src/kvm/ioctls.ts";
import * as structs from "../src/kvm/structs.ts";
import * as block from "../src/virtio/block-request.ts";
import * as virtioConsole from "../src/virtio/console.ts";
import * as fuseConstants from "../src/virtio/fs/constants.ts";
import * as fuse from "../src/virtio/fs/structs.ts";
import * as net from "../src/virtio/net.ts";
import * as netHeader from "../src/virtio/net-header.ts";
import * as ring from "../src/virtio/ring.ts";
import * as vsock from "../src/virtio/vsock/packet.ts";

/** Compiles a program that prints the C `expressions`, one number per line, and runs it. */
function evaluate(headers: string[], expressions: string[]): number[] {
	const directory = mkdtempSync(join(tmpdir(), "tsvmm-abi-"));
	try {
		const source = [
			"#define _GNU_SOURCE",
			"#include <stddef.h>",
			"#include <stdio.h>",
			...headers.map((header) => `#include ${header}`),
			"int main(void) {",
			...expressions.map((expression) => `printf("%llu\\n", (unsigned long long)(${expression}));`),
			"}",
		].join("\n");
		writeFileSync(join(directory, "abi.c"), source);
		execFileSync("gcc", ["-I", "native", "-o", join(directory, "abi"), join(directory, "abi.c")], { stdio: "pipe" });
		return execFileSync(join(directory, "abi"), { encoding: "utf8" }).trim().split("\n").map(Number);
	} finally {
		rmSync(directory, { recursive: true, force: true });
	}
}

/** Layouts among a module's exports. */
function layoutsOf(module: object): Layout<string>[] {
	return Object.values(module).filter((value) => typeof value === "object" && "structName" in value);
}

/** What a field is in C where it has another name or stands in an inner struct; undefined: padding of ours. */
const IN_C: Readonly<Record<string, string | undefined>> = {
	"Elf64_Ehdr.e_ident_magic": "e_ident",
	"Elf64_Ehdr.e_ident_class": "e_ident[EI_CLASS]",
	"Elf64_Ehdr.e_ident_data": "e_ident[EI_DATA]",
	"Elf64_Ehdr.e_ident_rest": "e_ident[EI_VERSION]",
	"Elf64_Ehdr.e_ident_pad": "e_ident[EI_ABIVERSION]",
	"virtio_net_config.mac0": "mac[0]",
	"virtio_net_config.mac2": "mac[2]",
	"virtio_net_config.mac4": "mac[4]",
	"virtio_net_hdr_mrg_rxbuf.flags": "hdr.flags",
	"virtio_net_hdr_mrg_rxbuf.gso_type": "hdr.gso_type",
	"virtio_net_hdr_mrg_rxbuf.hdr_len": "hdr.hdr_len",
	"virtio_net_hdr_mrg_rxbuf.gso_size": "hdr.gso_size",
	"virtio_net_hdr_mrg_rxbuf.csum_start": "hdr.csum_start",
	"virtio_net_hdr_mrg_rxbuf.csum_offset": "hdr.csum_offset",
	"virtio_blk_config.cylinders": "geometry.cylinders",
	"virtio_blk_config.heads": "geometry.heads",
	"virtio_blk_config.sectors": "geometry.sectors",
	"virtio_blk_config.unused2": "unused1[1]",
	"ifreq.pad": undefined,
	"ifreq.rest": undefined,
};

/** "kvm_run.io" is an anonymous member: its C type and how to name its fields' offsets. */
function cType(name: string): string {
	if (name.startsWith("Elf64_")) return name;
	const [outer, member] = name.split(".");
	return member === undefined ? `struct ${outer}` : `typeof(((struct ${outer} *)0)->${member})`;
}

function layoutChecks(layout: Layout<string>): [name: string, expression: string, ours: number][] {
	const { structName, sizeof, alignof, ...offsets } = layout;
	const type = cType(structName);
	return [
		[`sizeof of ${structName}`, `sizeof(${type})`, sizeof],
		[`alignof of ${structName}`, `_Alignof(${type})`, alignof],
		...Object.entries(offsets).flatMap(([field, offset]): [string, string, number][] => {
			const name = `${structName}.${field}`;
			const member = name in IN_C ? IN_C[name] : field;
			return member === undefined ? [] : [[name, `offsetof(${type}, ${member})`, offset]];
		}),
	];
}

function compare(headers: string[], checks: [name: string, expression: string, ours: number][]): void {
	const theirs = evaluate(
		headers,
		checks.map(([, expression]) => expression),
	);
	const ours = checks.map(([name, , value]) => `${name} = ${value}`);
	expect(ours).toEqual(checks.map(([name], i) => `${name} = ${theirs[i]}`));
}

describe("kvm/structs", () => {
	it("every struct has the size, alignment and offsets of <linux/kvm.h>", () => {
		const layouts = layoutsOf(structs);
		expect(layouts.length).toBeGreaterThan(40);
		compare(["<linux/kvm.h>"], layouts.flatMap(layoutChecks));
	});
});

describe("kvm/ioctls", () => {
	it("every ioctl has the number of <linux/kvm.h>", () => {
		compare(
			["<linux/kvm.h>", "<sys/ioctl.h>"],
			Object.entries(IOCTL).map(([name, value]) => [name, name, value]),
		);
	});
});

describe("kvm/constants", () => {
	it("every constant has the value of <linux/kvm.h>", () => {
		const { KVM_CAP, ...others } = constants;
		compare(
			["<linux/kvm.h>"],
			Object.entries({ ...KVM_CAP, ...others }).map(([name, value]) => [name, name, value]),
		);
	});
});

describe("virtio/fs", () => {
	const headers = ["<linux/fuse.h>", "<linux/virtio_fs.h>"];

	it("every struct has the size, alignment and offsets of <linux/fuse.h>", () => {
		const layouts = layoutsOf(fuse);
		expect(layouts.length).toBeGreaterThan(30);
		compare(headers, layouts.flatMap(layoutChecks));
	});

	it("every constant has the value of <linux/fuse.h>", () => {
		compare(
			headers,
			Object.entries(fuseConstants).map(([name, value]) => [name, name, value]),
		);
	});
});

describe("other layouts", () => {
	/* Structs of virtio grow at their end from kernel to kernel, and are packed there: only what we know must agree. */
	const GROWING = ["virtio_net_config", "virtio_blk_config", "statx"];

	it.each([
		["boot/elf", "<elf.h>", elf, 2],
		["debug/symbols/elf", "<elf.h>", symbols, 2],
		["debug/core-notes", "<sys/procfs.h>", coreNotes, 1],
		["virtio/ring", "<linux/virtio_ring.h>", ring, 4],
		["virtio/net", "<linux/virtio_net.h>", net, 1],
		["virtio/net-header", "<linux/virtio_net.h>", netHeader, 1],
		["virtio/block-request", "<linux/virtio_blk.h>", block, 3],
		["virtio/vsock/packet", "<linux/virtio_vsock.h>", vsock, 2],
		["virtio/console", "<linux/virtio_console.h>", virtioConsole, 1],
		["backends/ifreq", "<linux/if.h>", ifreq, 1],
		["host/file-lock", "<fcntl.h>", fileLock, 1],
		["host/statx", "<linux/stat.h>", statx, 2],
		["host/file-calls", "<linux/openat2.h> <sys/vfs.h> <time.h>", fileCalls, 3],
	])("of %s are those of %s", (_file, header, module, count) => {
		const layouts = layoutsOf(module);
		expect(layouts.length).toBe(count);
		const checks = layouts.flatMap(layoutChecks);
		compare(
			header.split(" "),
			checks.filter(([name]) => !GROWING.some((growing) => name.endsWith(`of ${growing}`))),
		);
	});
});

describe("host/syscall-numbers", () => {
	it("every number and flag has the value of the C library's headers", () => {
		const headers = ["<sys/syscall.h>", "<fcntl.h>", "<linux/openat2.h>", "<sys/stat.h>", "<unistd.h>"];
		compare(
			headers,
			Object.entries(syscallNumbers).map(([name, value]) => [name, name, value]),
		);
	});
});

describe("host/native", () => {
	it("every constant has the value of native/tsvmm.h", () => {
		const numbers = Object.entries(nativeContract).filter((entry) => typeof entry[1] === "number");
		expect(numbers.length).toBeGreaterThan(6);
		compare(
			['"tsvmm.h"'],
			numbers.map(([name, value]) => [name, name, value as number]),
		);
	});

	it("every struct has the size, alignment and offsets of native/tsvmm.h", () => {
		const layouts = layoutsOf(nativeContract);
		expect(layouts.length).toBe(5);
		compare(['"tsvmm.h"'], layouts.flatMap(layoutChecks));
	});

	it("native/tsvmm.h declares no constant that host/native.ts lacks", () => {
		const header = readFileSync("native/tsvmm.h", "utf8");
		const theirs = [...header.matchAll(/^#define (\w+) \S/gm)].map((match) => match[1]);
		expect(theirs.filter((name) => !(name! in nativeContract))).toEqual([]);
	});
});
