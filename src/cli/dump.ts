/*
 * `tsvmm dump`: a machine that runs, of `boot` or of a container, as an ELF core file, for gdb (docs/debugging.md).
 */
import { dirname, resolve } from "node:path";
import { Command } from "commander";
import { needsLab, reexecInLab } from "../lab/host.ts";
import { fileShare } from "../lab/shares.ts";
import { askForFile, controlOf } from "./ask-machine.ts";
import { watchOutput } from "./output.ts";

/** The command for main.ts. */
export function dumpCommand(): Command {
	return new Command("dump")
		.description("write memory and registers of a machine to a core file, for gdb")
		.argument("<machine>", "a container, or the path of a machine's control socket (`tsvmm boot --control`)")
		.argument("<file>", "the file to write; only its owner can read it")
		.option("-f, --force", "replace a file that is there", false)
		.action(async (of: string, file: string, { force }: { force: boolean }) => {
			watchOutput();
			process.exitCode = await dump(of, resolve(file), force);
		});
}

async function dump(of: string, path: string, force: boolean): Promise<number> {
	if (needsLab()) {
		return reexecInLab(process.argv.slice(2), { quiet: true, shares: [fileShare(dirname(path), "rw")] });
	}
	await askForFile("write the dump", controlOf(of, "dump", true), { do: "dump", path, force });
	return 0;
}
