/*
 * `tsvmm kernel fetch|build|ls`: the kernels that guests boot.
 */
import { stat } from "node:fs/promises";
import { Command } from "commander";
import { type BuildProgress, buildKernel } from "../kernel/build.ts";
import { FLAVOURS, type Flavour } from "../kernel/pins.ts";
import { fetchKernel, type GuestKernel, listKernels } from "../kernel/store.ts";
import { untilInterrupted } from "./interrupt.ts";
import { printJson } from "./output.ts";

const say = (line: string) => void process.stderr.write(`${line}\n`);

/**
 * Prints one line per step. While compiling it prints a percentage: rewritten in place on a terminal, seldom elsewhere.
 */
function progressPrinter(): (progress: BuildProgress) => void {
	const terminal = process.stderr.isTTY === true;
	let last = "";
	let lastPercent = -1;
	return ({ step, done, total }) => {
		if (step !== last) {
			if (terminal && last === "compile") say("");
			last = step;
			const words = { fetch: "fetching the source", unpack: "unpacking", configure: "configuring" } as const;
			if (step !== "compile" && step !== "done") say(`kernel: ${words[step]}`);
		}
		const percent = Math.floor((100 * done) / total);
		if (step !== "compile" || percent === lastPercent) return;
		if (terminal) process.stderr.write(`\rkernel: compiling ${done}/${total} (${percent}%)`);
		else if (percent % 20 === 0) say(`kernel: compiling ${done}/${total} (${percent}%)`);
		lastPercent = percent;
	};
}

async function list(json: boolean): Promise<void> {
	const kernels = await listKernels();
	if (json) {
		printJson(kernels);
		return;
	}
	const rows = await Promise.all(
		kernels.map(async (kernel) => {
			const { size } = await stat(kernel.vmlinux);
			return [kernel.name, kernel.release, `${(size / 2 ** 20).toFixed(1)} MiB`, kernel.vmlinux];
		}),
	);
	const table = [["NAME", "RELEASE", "SIZE", "VMLINUX"], ...rows];
	const widths = [0, 1, 2].map((column) => Math.max(...table.map((row) => row[column]!.length)));
	for (const row of table) {
		process.stdout.write(`${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join("  ")}\n`);
	}
}

const print = (kernel: GuestKernel) => void process.stdout.write(`${kernel.vmlinux}\n`);

interface FetchFlags {
	flavour: Flavour;
	version?: string;
	latest?: boolean;
	suite?: string;
}

export function kernelCommand(): Command {
	const command = new Command("kernel").description("the kernels that guests boot");
	command
		.command("fetch")
		.description("take a stock kernel from Debian's packages; prints the path of its vmlinux")
		.option("--flavour <flavour>", FLAVOURS.join(", "), "6.1-cloud")
		.option("--version <version>", "this Debian version instead of the pinned one")
		.option("--latest", "the newest version instead of the pinned one")
		.option("--suite <suite>", "Debian suite to look in, such as bookworm-backports")
		.action(async ({ flavour, ...options }: FetchFlags) =>
			print(
				await untilInterrupted(`fetch kernel "${flavour}"`, (signal) =>
					fetchKernel(flavour, { ...options, onStep: say, signal }),
				),
			),
		);
	command
		.command("build")
		.description("build the minimal kernel from Debian's source; prints the path of its vmlinux")
		.action(async () => {
			print(
				await untilInterrupted("build the kernel", (signal) => buildKernel({ onProgress: progressPrinter(), signal })),
			);
		});
	command
		.command("ls")
		.description("list the kernels in the cache")
		.option("--json", "as JSON")
		.action(async ({ json = false }: { json?: boolean }) => await list(json));
	return command;
}
