/*
 * `tsvmm snapshot`: machines and containers as files (docs/snapshots.md). `create` asks a machine by its control socket, which
 * that of a container is as well; `restore` runs a machine as `boot` does, and starts a container as `run -d` does.
 */
import { basename, dirname, resolve } from "node:path";
import { Command } from "commander";
import { explain, SnapshotError, UsageError } from "../base/errors.ts";
import { PAGE_BYTES } from "../base/page-set.ts";
import { untilGone } from "../container/life/commands.ts";
import { reviveFrom } from "../container/life/revive.ts";
import type { PackageModules } from "../host/user-module.ts";
import { needsLab, reexecInLab } from "../lab/host.ts";
import { fileShare } from "../lab/shares.ts";
import type { RestoreConfig } from "../machine/config.ts";
import { Machine } from "../machine/machine.ts";
import { basedOn, listSnapshots, readChain, removeSnapshot, sizeOf } from "../snapshot/directory.ts";
import { type Described, readManifest } from "../snapshot/manifest.ts";
import { pagesIn, readWorkingSet } from "../snapshot/working-set.ts";
import { mergeSnapshot } from "../snapshot/write.ts";
import { askForFile, containerOf, controlOf } from "./ask-machine.ts";
import { deviceShares, followed, openDeviceFiles } from "./device-files.ts";
import { each } from "./each.ts";
import { runInForeground } from "./foreground-machine.ts";
import { FORMAT_HELP, formatRows, type Listing } from "./format.ts";
import { addHostFlags, type HostFlags, hostConfig, hostShares } from "./host-flags.ts";
import { inspectEach } from "./inspect.ts";
import { untilInterrupted } from "./interrupt.ts";
import { watchOutput } from "./output.ts";
import { withProgress } from "./progress-bar.ts";
import { age, size } from "./units.ts";

const LISTING: Listing = {
	headings: { Cpus: "CPUS" },
	table: "{{.Name}}\t{{.Created}}\t{{.Cpus}}\t{{.Memory}}\t{{.Size}}\t{{.Container}}\t{{.Base}}",
};

/** The command for main.ts. @param modules what the user's devices may import */
export function snapshotCommand(modules: PackageModules = {}): Command {
	return new Command("snapshot")
		.description("machines and containers as files, from which others go on")
		.addCommand(createCommand())
		.addCommand(restoreCommand(modules))
		.addCommand(listCommand())
		.addCommand(inspectCommand())
		.addCommand(mergeCommand())
		.addCommand(removeCommand());
}

interface CreateFlags {
	base?: string;
	stop: boolean;
}

function createCommand(): Command {
	return new Command("create")
		.description("take a snapshot of a container, or of a machine that was started with --control")
		.argument("<container>", "the container, or the path of the machine's control socket")
		.argument("<path>", "the directory to make")
		.option("--base <path>", "a snapshot; only what differs from it is written")
		.option("--stop", "end it when the snapshot is written", false)
		.action(async (of: string, path: string, flags: CreateFlags) => {
			watchOutput();
			process.exitCode = await create(of, resolve(path), flags);
		});
}

async function create(of: string, path: string, { base, stop }: CreateFlags): Promise<number> {
	if (needsLab()) {
		const chain = base === undefined ? [] : await readChain(base);
		const shares = [fileShare(dirname(path), "rw"), ...chain.map((one) => fileShare(one.path, "ro"))];
		return reexecInLab(process.argv.slice(2), { quiet: true, shares });
	}
	const container = containerOf(of);
	const control = controlOf(of, "take a snapshot of");
	const from = base === undefined ? undefined : resolve(base);
	await askForFile("take a snapshot", control, { do: "snapshot", path, base: from, stop });
	/* What is asked next finds it ended. */
	if (stop && container !== undefined) await untilGone(container);
	return 0;
}

function restoreCommand(modules: PackageModules): Command {
	const command = new Command("restore")
		.description(
			"let a container, or a machine with the devices that it had, go on from a snapshot; Ctrl-A x ends a machine",
		)
		.argument("<path>", "the snapshot")
		.option("--name <name>", "of the container");
	return addHostFlags(command).action(async (path: string, flags: HostFlags & { name?: string }) => {
		const { container } = await readManifest(path);
		if (container !== undefined) {
			watchOutput();
			process.exitCode = await revive(path, flags.name);
			return;
		}
		if (flags.name !== undefined) {
			throw new UsageError("ERR_USAGE", `Cannot name what goes on from ${path}: it is a machine, and no container`);
		}
		process.exitCode = await restoreMachine(path, flags, modules);
	});
}

async function restoreMachine(path: string, flags: HostFlags, modules: PackageModules): Promise<number> {
	const restored = hostConfig(flags);
	const live = await openDeviceFiles(flags, modules);
	try {
		const config = { ...restored, devices: live?.devices ?? [] };
		const shares = async () => {
			const chain = (await readChain(path)).map((one) => fileShare(one.path, "ro"));
			return [...chain, ...hostShares(config), ...deviceShares(live)];
		};
		const make = (complete: RestoreConfig) => followed(Machine.restore(path, complete), live);
		return await runInForeground({ config, make, flags, shares });
	} finally {
		await live?.close();
	}
}

async function revive(path: string, name: string | undefined): Promise<number> {
	if (needsLab()) {
		const shares = (await readChain(path)).map((one) => fileShare(one.path, "ro"));
		return reexecInLab(process.argv.slice(2), { quiet: true, shares });
	}
	const { id } = await untilInterrupted("restore the container", (signal) => reviveFrom(path, name, signal));
	process.stdout.write(`${id}\n`);
	return 0;
}

function listCommand(): Command {
	return new Command("ls")
		.alias("list")
		.description("list the snapshots in a directory")
		.argument("[path]", "the directory", ".")
		.option("--format <format>", FORMAT_HELP)
		.action(async (directory: string, { format }: { format?: string }) => {
			watchOutput();
			process.stdout.write(formatRows((await listed(directory)).map(rowOf), LISTING, format));
		});
}

async function listed(directory: string): Promise<Described[]> {
	try {
		return await listSnapshots(directory);
	} catch (cause) {
		const message = `Cannot list the snapshots in ${directory}: ${explain(cause)}`;
		throw new SnapshotError("ERR_SNAPSHOT_MISSING", message, { cause });
	}
}

function rowOf({ path, manifest }: Described) {
	const { created, machine, base, id, container } = manifest;
	return {
		Name: basename(path),
		Path: resolve(path),
		Id: id,
		Created: age(created),
		CreatedAt: created,
		Cpus: machine.cpus,
		Memory: `${machine.memoryMiB}MiB`,
		Size: size(sizeOf(path, manifest)),
		Container: container?.name ?? "",
		Base: base === undefined ? "" : basename(base.path),
		Kernel: machine.kernel,
	};
}

function inspectCommand(): Command {
	return new Command("inspect")
		.description("print what is known of snapshots")
		.argument("<path...>", "snapshots")
		.option("-f, --format <format>", "json or a Go template")
		.action(async (paths: string[], { format }: { format?: string }) => {
			watchOutput();
			const describe = async (path: string) => {
				const [{ manifest }, ...bases] = (await readChain(path)) as [Described, ...Described[]];
				const runs = await readWorkingSet(path, manifest);
				return {
					path: resolve(path),
					size: sizeOf(path, manifest),
					...(runs && { workingSet: { pages: pagesIn(runs), bytes: pagesIn(runs) * PAGE_BYTES } }),
					bases: bases.map((base) => base.path),
					...manifest,
				};
			};
			process.exitCode = await inspectEach(paths, describe, format);
		});
}

function mergeCommand(): Command {
	return new Command("merge")
		.description("make one snapshot with all memory, of one and of those that it is based on")
		.argument("<path>", "the snapshot")
		.argument("<new-path>", "the directory to make")
		.action(async (path: string, to: string) => {
			watchOutput();
			await untilInterrupted("merge snapshots", (signal) =>
				withProgress("merging snapshots", (progress) => mergeSnapshot(path, to, { ...progress, signal })),
			);
		});
}

function removeCommand(): Command {
	return new Command("rm")
		.alias("remove")
		.description("remove snapshots; machines that were restored from them go on")
		.argument("<path...>", "snapshots")
		.option("-f, --force", "also those on which others in the same directory are based", false)
		.action(async (paths: string[], { force }: { force: boolean }) => {
			watchOutput();
			process.exitCode = await each(paths, async (path) => {
				/* One that could not be removed still needs its base. */
				if (!force) await refuseUsed(path, paths.slice(paths.indexOf(path)));
				await removeSnapshot(path);
			});
		});
}

/** @throws SnapshotError ERR_SNAPSHOT_USED when others need it that are not removed, too */
async function refuseUsed(path: string, removed: readonly string[]): Promise<void> {
	const users = await basedOn(path, removed);
	if (users.length === 0) return;
	const message = `Cannot remove the snapshot ${path}: ${users.map((user) => basename(user)).join(", ")} is based on it`;
	throw new SnapshotError("ERR_SNAPSHOT_USED", message, {
		hint: "Remove that one, too, or make it one of its own: tsvmm snapshot merge",
	});
}
