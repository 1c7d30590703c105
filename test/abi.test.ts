/*
 * The declared layouts, ioctl numbers and constants against the real C headers: a C program made from our own tables
 * prints what the compiler says, and both must agree in every line.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Layout } from "../src/base/struct.ts";
import * as nativeContract from "../src/host/native.ts";
import * as constants from "../src/kvm/constants.ts";
import { IOCTL } from "../src/kvm/ioctls.ts";
import * as structs from "../src/kvm/structs.ts";

/** Compiles a program that prints the C `expressions`, one number per line, and runs it. */
function evaluate(headers: string[], expressions: string[]): number[] {
	const folder = mkdtempSync(join(tmpdir(), "tsvmm-abi-"));
	try {
		const source = [
			"#include <stddef.h>",
			"#include <stdio.h>",
			...headers.map((header) => `#include ${header}`),
			"int main(void) {",
			...expressions.map((expression) => `printf("%llu\\n", (unsigned long long)(${expression}));`),
			"}",
		].join("\n");
		writeFileSync(join(folder, "abi.c"), source);
		execFileSync("gcc", ["-I", "native", "-o", join(folder, "abi"), join(folder, "abi.c")], { stdio: "pipe" });
		return execFileSync(join(folder, "abi"), { encoding: "utf8" }).trim().split("\n").map(Number);
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
}

/** "kvm_run.io" is an anonymous member: its C type and how to name its fields' offsets. */
function cType(name: string): string {
	const [outer, member] = name.split(".");
	return member === undefined ? `struct ${outer}` : `typeof(((struct ${outer} *)0)->${member})`;
}

function layoutChecks(layout: Layout<string>): [name: string, expression: string, ours: number][] {
	const { structName, sizeof, alignof, ...offsets } = layout;
	const type = cType(structName);
	return [
		[`sizeof ${structName}`, `sizeof(${type})`, sizeof],
		[`alignof ${structName}`, `_Alignof(${type})`, alignof],
		...Object.entries(offsets).map(([field, offset]): [string, string, number] => [
			`${structName}.${field}`,
			`offsetof(${type}, ${field})`,
			offset,
		]),
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
		const layouts = Object.values(structs) as unknown as Layout<string>[];
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
		const layouts = Object.values(nativeContract).filter((value) => typeof value === "object");
		expect(layouts.length).toBe(4);
		compare(['"tsvmm.h"'], (layouts as unknown as Layout<string>[]).flatMap(layoutChecks));
	});

	it("native/tsvmm.h declares no constant that host/native.ts lacks", () => {
		const header = readFileSync("native/tsvmm.h", "utf8");
		const theirs = [...header.matchAll(/^#define (\w+) \S/gm)].map((match) => match[1]);
		expect(theirs.filter((name) => !(name! in nativeContract))).toEqual([]);
	});
});
