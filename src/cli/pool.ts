/*
 * `tsvmm pool up|ls|down`: machines that run and wait for containers (src/container/pool).
 */
import { Command } from "commander";
import { UsageError } from "../base/errors.ts";
import { endPool, listPools, type Pool, startPool } from "../container/pool/commands.ts";
import { PoolPaths } from "../container/pool/paths.ts";
import { supervisePool } from "../container/pool/supervisor.ts";
import { makeTemplate } from "../container/template/make.ts";
import { parseShape } from "../container/template/shape.ts";
import { readinessReporter } from "../host/detached-process.ts";
import { whereContainersAre } from "./container/where.ts";
import { each } from "./each.ts";
import { FORMAT_HELP, formatRows, type Listing } from "./format.ts";
import { untilInterrupted } from "./interrupt.ts";
import { addShapeFlags, type ShapeFlags, shapeOf } from "./shape-flags.ts";

const LISTING: Listing = {
	headings: { Cpus: "CPUS" },
	table: "{{.Key}}\t{{.Ready}}\t{{.Wanted}}\t{{.Cpus}}\t{{.Memory}}\t{{.Kernel}}",
};
const MOST_MACHINES = 1000;

interface UpFlags extends ShapeFlags {
	number: string;
}

export function poolCommand(): Command {
	return new Command("pool")
		.description("machines that wait for containers, which then start without a boot or a restore")
		.addCommand(upCommand())
		.addCommand(listCommand())
		.addCommand(downCommand())
		.addCommand(superviseCommand(), { hidden: true });
}

function upCommand(): Command {
	const command = new Command("up")
		.description("hold so many machines ready, from now on")
		.option("-n, --number <n>", "how many machines wait", "1");
	return addShapeFlags(command).action(async (flags: UpFlags) => {
		const machines = parseNumber(flags.number);
		const shape = await shapeOf(flags);
		const up = () =>
			untilInterrupted("start a pool", async (signal) => {
				await makeTemplate(shape, { signal });
				process.stdout.write(`${await startPool({ shape, machines })}\n`);
				return 0;
			});
		await whereContainersAre(up, { runs: true });
	});
}

function parseNumber(text: string): number {
	const number = /^\d{1,4}$/.test(text) ? Number(text) : 0;
	if (number >= 1 && number <= MOST_MACHINES) return number;
	throw new UsageError(
		"ERR_OPTION_NUMBER",
		`Cannot read number ${JSON.stringify(text)}: 1 to ${MOST_MACHINES} machines are possible`,
	);
}

function listCommand(): Command {
	return new Command("ls")
		.alias("list")
		.description("list pools")
		.option("--format <format>", FORMAT_HELP)
		.action(({ format }: { format?: string }) =>
			whereContainersAre(async () => {
				process.stdout.write(formatRows((await listPools()).map(rowOf), LISTING, format));
				return 0;
			}),
		);
}

function rowOf({ key, machines, ready, failure, shape }: Pool) {
	const { cpus, memoryMiB, kernel } = shape;
	const Memory = `${memoryMiB}MiB`;
	return { Key: key, Ready: ready, Wanted: machines, Cpus: cpus, Memory, Kernel: kernel, Failure: failure ?? "" };
}

function downCommand(): Command {
	return new Command("down")
		.description("end pools; machines that containers have taken go on")
		.argument("[key...]", "of those that ls shows; all when there is none")
		.action((keys: string[]) => whereContainersAre(() => down(keys)));
}

async function down(keys: readonly string[]): Promise<number> {
	const pools = await listPools();
	const wanted = keys.length === 0 ? pools.map(({ key }) => key) : keys;
	return each(wanted, async (key) => {
		if (!pools.some((pool) => pool.key === key)) {
			throw new UsageError("ERR_POOL_MISSING", `Cannot end pool ${JSON.stringify(key)}: there is none`, {
				hint: "See tsvmm pool ls for those that there are",
			});
		}
		await endPool(key);
	});
}

/** What src/container/pool/commands.ts starts, not for users. */
function superviseCommand(): Command {
	return new Command("supervise")
		.argument("<key>")
		.argument("<machines>")
		.argument("<shape>")
		.action(async (key: string, machines: string, shape: string) => {
			const onReady = readinessReporter("ERR_POOL_FAILED");
			try {
				const plan = { shape: parseShape(shape), machines: parseNumber(machines) };
				await supervisePool(new PoolPaths(key), plan, { onReady });
			} catch (error) {
				onReady(error);
				throw error;
			}
		});
}
