/*
 * `tsvmm device`: devices of one's own (docs/device-experiments.md).
 */
import { existsSync } from "node:fs";
import { Command } from "commander";
import { UsageError } from "../base/errors.ts";
import { printable } from "../base/log.ts";
import type { PackageModules } from "../host/user-module.ts";
import { runDeviceTests, type TestOutcome } from "../workbench/device-tests.ts";
import { writeSkeleton } from "../workbench/skeleton.ts";
import { replayFile } from "./replay.ts";

/** The command for main.ts. @param modules what the user's devices may import */
export function deviceCommand(modules: PackageModules = {}): Command {
	return new Command("device")
		.description("virtio devices of your own, in TypeScript files")
		.addCommand(newCommand())
		.addCommand(testCommand(modules));
}

function newCommand(): Command {
	return new Command("new")
		.description("write a device that works and a test of it, to go on from")
		.argument("<name>", "small letters, digits and dashes")
		.option("--dir <path>", "where to", ".")
		.action((name: string, { dir }: { dir: string }) => {
			process.stdout.write(`${writeSkeleton(name, dir).join("\n")}\n`);
		});
}

function testCommand(modules: PackageModules): Command {
	return new Command("test")
		.description("run the tests of a device, and play the recording beside it, without a guest")
		.argument("<file>", "the device's file, or that of its tests")
		.action(async (file: string) => {
			process.exitCode = await testDevice(file, modules);
		});
}

/** Of my-device.ts: my-device.test.ts and my-device.jsonl, as far as they are there. @returns the exit status */
async function testDevice(path: string, modules: PackageModules): Promise<number> {
	const [, stem = path, , extension = ""] = /^(.*?)(\.test)?(\.[cm]?[jt]s)$/.exec(path) ?? [];
	const [device, tests, recording] = [`${stem}${extension}`, `${stem}.test${extension}`, `${stem}.jsonl`];
	const [isTested, isRecorded] = [existsSync(tests), existsSync(recording)];
	if (!isTested && !isRecorded) {
		throw new UsageError("ERR_DEVICE_TEST", `Cannot test ${device}: there is no ${tests} and no ${recording}`, {
			hint: `Write tests (tsvmm device new NAME makes some), or record a guest: tsvmm boot --device ${device} --record ${recording}`,
		});
	}
	let status = 0;
	if (isTested) {
		const outcomes = await runDeviceTests(tests, modules, printOutcome);
		const failed = outcomes.filter(({ failure }) => failure !== undefined).length;
		const ms = outcomes.reduce((sum, outcome) => sum + outcome.ms, 0);
		const found = failed === 0 ? "all passed" : `${failed} failed`;
		process.stdout.write(`${tests}: ${outcomes.length} tests, ${found}, ${Math.round(ms)} ms\n`);
		if (failed > 0) status = 1;
	}
	if (isRecorded) status = Math.max(status, await replayFile(recording, { device }, modules));
	return status;
}

function printOutcome({ name, failure }: TestOutcome): void {
	const lines =
		failure === undefined ? [`✓ ${name}`] : [`✗ ${name}`, ...failure.split("\n").map((line) => `    ${line}`)];
	process.stdout.write(`${lines.map(printable).join("\n")}\n`);
}
