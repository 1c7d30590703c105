/*
 * Misuse and help of the real command line. Errors of commander and of ours have one form. Help fits on a terminal and
 * ends with examples.
 */
import type { Command } from "commander";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { bootCommand } from "../../src/cli/boot.ts";
import { completionCommand } from "../../src/cli/completion.ts";
import { runCommand } from "../../src/cli/container/run.ts";
import { deviceCommand } from "../../src/cli/device.ts";
import { doctorCommand } from "../../src/cli/doctor.ts";
import { dumpCommand } from "../../src/cli/dump.ts";
import { EXAMPLES } from "../../src/cli/examples.ts";
import { explainCommand } from "../../src/cli/explain.ts";
import { imageCommand } from "../../src/cli/image.ts";
import { imageListCommand } from "../../src/cli/image-list.ts";
import { historyCommand, removeImagesCommand, tagCommand } from "../../src/cli/image-names.ts";
import { kernelCommand } from "../../src/cli/kernel.ts";
import { labCommand } from "../../src/cli/lab.ts";
import { learnCommand } from "../../src/cli/learn.ts";
import { loginCommand, logoutCommand } from "../../src/cli/login.ts";
import { manualCommand } from "../../src/cli/manual.ts";
import { poolCommand } from "../../src/cli/pool.ts";
import { pullCommand, pushCommand } from "../../src/cli/pull.ts";
import { replayCommand } from "../../src/cli/replay.ts";
import { loadCommand, saveCommand } from "../../src/cli/save.ts";
import { snapshotCommand } from "../../src/cli/snapshot.ts";
import { bundle, tsvmm } from "./tsvmm.ts";

/* Each start of tsvmm takes its time on a busy machine. */
vi.setConfig({ testTimeout: 60_000 });

beforeAll(bundle, 60_000);

describe.concurrent("tsvmm", () => {
	test.each([
		[["--bogus"], 'unknown option "--bogus"', "See tsvmm --help"],
		[["xyzzy"], 'unknown command "xyzzy"', "See tsvmm --help"],
		[["bot"], 'unknown command "bot"', "Try boot, or see tsvmm --help"],
		[["boot", "--bogus"], 'unknown option "--bogus"', "See tsvmm boot --help"],
		[["boot", "--menory", "1G"], 'unknown option "--menory"', "Try --memory, or see tsvmm boot --help"],
		[["boot", "--kernel"], 'option "--kernel <file>" argument missing', "See tsvmm boot --help"],
		[["boot", "k"], 'too many arguments for "boot": expected 0, got 1', "See tsvmm boot --help"],
		[["run"], 'missing required argument "image"', "See tsvmm run --help"],
		[["run", "--bogus", "x"], 'unknown option "--bogus"', "See tsvmm run --help"],
		[["run", "-e"], 'option "-e, --env <name[=value]>" argument missing', "See tsvmm run --help"],
		[["image", "bogus"], 'unknown command "bogus"', "See tsvmm image --help"],
		[["image", "import"], 'missing required argument "path"', "See tsvmm image import --help"],
		[["image", "rm"], 'missing required argument "image"', "See tsvmm image rm --help"],
		[["image", "ls", "--jsom"], 'unknown option "--jsom"', "Try --json, or see tsvmm image ls --help"],
		[["pull"], 'missing required argument "image"', "See tsvmm pull --help"],
		[["kernel", "ls", "x"], 'too many arguments for "ls": expected 0, got 1', "See tsvmm kernel ls --help"],
		[["lab", "exec"], 'missing required argument "command"', "See tsvmm lab exec --help"],
		[["lab", "up", "--memory"], 'option "--memory <size>" argument missing', "See tsvmm lab up --help"],
		[["doctor", "x"], 'too many arguments for "doctor": expected 0, got 1', "See tsvmm doctor --help"],
	])("refuses %j with status 125 and names the help", async (args, found, hint) => {
		expect(await tsvmm(args)).toEqual({
			status: 125,
			stdout: "",
			stderr: `tsvmm: error: Cannot read the command line: ${found} [ERR_USAGE]\n  hint: ${hint}\n`,
			left: [],
		});
	});

	test("prints its version", async () => {
		expect(await tsvmm(["--version"])).toMatchObject({
			status: 0,
			stdout: expect.stringMatching(/^\d+\.\d+\.\d+ \(commit [0-9a-f]{12}(-dirty)?, native helper ABI \d+\)\n$/),
		});
	});

	test("prints help on stdout when asked, on stderr when a command is missing, both with status 0", async () => {
		const asked = await tsvmm(["--help"]);
		expect(asked).toMatchObject({ status: 0, stderr: "" });
		expect(asked.stdout).toMatch(/^Usage: tsvmm .*Examples:\n/s);
		expect(await tsvmm([])).toMatchObject({ status: 0, stdout: "", stderr: asked.stdout });
		expect((await tsvmm(["image"])).stderr).toContain("Usage: tsvmm image");
	});

	test("help COMMAND prints what COMMAND --help prints", async () => {
		const [byName, byOption] = await Promise.all([tsvmm(["help", "boot"]), tsvmm(["boot", "--help"])]);
		expect(byName).toEqual(byOption);
		expect(byName.stdout).toContain("--kernel <file>");
	});

	test("every help fits in 100 columns and ends with an example of its command", async () => {
		const commands = Object.keys(EXAMPLES).map((path) => path.split(" ").slice(1));
		for (const command of commands) {
			const { status, stdout } = await tsvmm([...command, "--help"]);
			expect(status).toBe(0);
			const lines = stdout.trimEnd().split("\n");
			expect(lines.filter((line) => line.length > 100)).toEqual([]);
			expect(lines.at(-1)).toMatch(new RegExp(`^ .*tsvmm ${command.join(" ")}`));
			expect(stdout).not.toContain("(default: false)");
			expect(stdout).not.toContain("(default: [])");
		}
	});
});

test("EXAMPLES has every command that a user can see, and no other", () => {
	const none = () => Promise.reject(new Error("not asked for"));
	const tops = [
		...[deviceCommand(), replayCommand()],
		...[bootCommand(), runCommand(), imageCommand(), kernelCommand(), labCommand(), doctorCommand()],
		...[completionCommand(none), manualCommand(none), pullCommand(), pushCommand()],
		...[imageListCommand("images"), tagCommand(), removeImagesCommand("rmi"), historyCommand()],
		...[saveCommand(), loadCommand(), loginCommand(), logoutCommand(), snapshotCommand()],
		...[poolCommand(), learnCommand({}), dumpCommand(), explainCommand()],
	];
	const paths = (command: Command, path: string): string[] => [
		path,
		...command
			.createHelp()
			.visibleCommands(command)
			.filter((child) => child.name() !== "help")
			.flatMap((child) => paths(child, `${path} ${child.name()}`)),
	];
	const visible = tops.flatMap((command) => paths(command, `tsvmm ${command.name()}`));
	expect(Object.keys(EXAMPLES).sort()).toEqual(["tsvmm", ...visible].sort());
});
