/*
 * tsvmm lab up|exec|down|status: a KVM host for machines that have none (docs/lab.md). `lab supervise` starts the
 * supervisor and is not for users.
 */
import { Command } from "commander";
import { relayDatagrams } from "../lab/datagram-relay.ts";
import { exec } from "../lab/exec.ts";
import { Lab, type LabStatus } from "../lab/lab.ts";
import { DEFAULT_LAB } from "../lab/paths.ts";
import { upWithProgress } from "../lab/progress.ts";
import { parseShare, type Share } from "../lab/shares.ts";
import { superviseLab } from "../lab/supervisor.ts";
import { parseCpus, parseMemory } from "./options.ts";
import { printJson } from "./output.ts";

interface NameOption {
	name: string;
}

function collectEnv(text: string, env: Record<string, string>): Record<string, string> {
	const at = text.indexOf("=");
	/* As in Docker: a bare name passes this process's value on, which the lab has anyway. */
	return at < 0 ? env : { ...env, [text.slice(0, at)]: text.slice(at + 1) };
}

function collectShare(text: string, shares: Share[]): Share[] {
	return [...shares, parseShare(text)];
}

function describe({ name, state, record, broken }: LabStatus): string {
	if (record === undefined) return `lab ${name}: ${state}${broken === undefined ? "" : `: it ${broken}`}`;
	const seconds = Math.round((Date.now() - record.sinceMs) / 1000);
	const lines = [
		`lab ${name}: ${state} for ${seconds} s`,
		`supervisor  ${record.pid}${record.qemuPid === undefined ? "" : `, QEMU ${record.qemuPid}`}`,
		`size    ${record.cpus} vCPU, ${record.memoryMiB} MiB`,
	];
	if (record.template !== undefined) lines.push(`template ${record.template}`);
	if (record.restoreMs !== undefined) lines.push(`restored in ${record.restoreMs} ms`);
	if (record.unconfined !== undefined)
		lines.push(`shares  all files, because this machine refuses namespaces: ${record.unconfined}`);
	for (const { path, access } of record.shares ?? []) lines.push(`shares  ${path} (${access})`);
	return lines.join("\n");
}

export function labCommand(): Command {
	const lab = new Command("lab").description("a KVM host for machines that have none").enablePositionalOptions();

	lab
		.command("up")
		.description("bring the lab up, or do nothing when it is")
		.option("--name <name>", "one of several labs", DEFAULT_LAB)
		.option("--memory <size>", "RAM of a lab that is not up yet, such as 4G", parseMemory)
		.option("--cpus <n>", "its vCPUs; QEMU 7.2 is only reliable with one", parseCpus)
		.option("--share <path[:ro]>", "give it a file or directory; may be repeated", collectShare, [])
		.option("-q, --quiet", "no progress", false)
		.action(async ({ name, memory, cpus, share, quiet }: NameOption & UpFlags) => {
			const size = { ...(memory === undefined ? {} : { memoryMiB: memory }), ...(cpus === undefined ? {} : { cpus }) };
			const { close } = await upWithProgress({ name, shares: share, ...size }, quiet);
			close();
		});

	lab
		.command("exec")
		.description("run a program in the lab")
		.option("--name <name>", "one of several labs", DEFAULT_LAB)
		.option("-i, --interactive", "pass standard input on (otherwise it is empty)", false)
		.option("-t, --tty", "give the program a terminal", false)
		.option("-e, --env <K=V>", "set a variable", collectEnv, {})
		.option(
			"--share <path[:ro]>",
			"give the lab a file or directory besides this one; may be repeated",
			collectShare,
			[],
		)
		.option("-q, --quiet", "no progress", false)
		.argument("<command...>", "the program and its arguments, after --")
		.passThroughOptions()
		.action(async (argv: string[], options: NameOption & ExecFlags) => {
			const { name, quiet, env, tty, interactive, share } = options;
			const here: Share = { path: process.cwd(), access: process.cwd() === "/" ? "directory" : "rw" };
			const up = await upWithProgress({ name, shares: [here, ...share] }, quiet);
			try {
				process.exitCode = await exec(up.lab, argv, { env, tty, stdin: interactive });
			} finally {
				up.close();
			}
		});

	lab
		.command("down")
		.description("stop the lab")
		.option("--name <name>", "one of several labs", DEFAULT_LAB)
		.action(async ({ name }: NameOption) => {
			await Lab.down(name);
		});

	lab
		.command("status")
		.description("say whether the lab is up")
		.option("--name <name>", "one of several labs", DEFAULT_LAB)
		.option("--json", "for programs", false)
		.action(async ({ name, json }: NameOption & { json: boolean }) => {
			const status = await Lab.status(name);
			if (json) printJson(status);
			else process.stdout.write(`${describe(status)}\n`);
		});

	lab
		.command("relay-datagrams", { hidden: true })
		.argument("<address:port...>")
		.action(async (targets: string[]) => {
			const read = targets
				.map((text) => text.split(":"))
				.map(([address = "", port]) => ({ address, port: Number(port) }));
			await relayDatagrams(read, process.stdin, process.stdout);
		});

	lab
		.command("supervise", { hidden: true })
		.requiredOption("--name <name>")
		.requiredOption("--memory-mib <n>", "", Number)
		.requiredOption("--cpus <n>", "", Number)
		.action(async ({ name, memoryMib, cpus }: NameOption & { memoryMib: number; cpus: number }) => {
			process.exitCode = await superviseLab(name, { memoryMiB: memoryMib, cpus });
		});

	return lab;
}

interface UpFlags {
	memory?: number;
	cpus?: number;
	share: Share[];
	quiet: boolean;
}

interface ExecFlags {
	share: Share[];
	quiet: boolean;
	env: Record<string, string>;
	tty: boolean;
	interactive: boolean;
}
