/*
 * `tsvmm pod`: machines that several containers join, in podman's words and columns.
 */
import { Command } from "commander";
import type { PortForward } from "../backends/passt-ports.ts";
import { explain } from "../base/errors.ts";
import { networkName, networkNames } from "../container/life/config.ts";
import { containerKernel } from "../container/life/kernel.ts";
import { podStatus, removePod, startWholePod, stopPod } from "../container/pod/commands.ts";
import { createPod, findPod, listPods, type PodConfig, type StoredPod } from "../container/pod/store.ts";
import { supervisePod } from "../container/pod/supervisor.ts";
import { sharedShape } from "../container/template/shape.ts";
import { readinessReporter } from "../host/detached-process.ts";
import { validateSize } from "../machine/config.ts";
import { describeDuration } from "./container/describe.ts";
import { readSeconds } from "./container/flags.ts";
import { readNetwork } from "./container/network-flags.ts";
import { whereContainersAre } from "./container/where.ts";
import { each } from "./each.ts";
import { FORMAT_HELP, formatRows, formatValues, type Listing, type Row } from "./format.ts";
import { parseCpus, parseMemory, parsePorts } from "./options.ts";
import { watchOutput } from "./output.ts";

const LISTING: Listing = {
	headings: { Id: "POD ID", Created: "CREATED", NumberOfContainers: "# OF CONTAINERS" },
	table: "{{.Id}}\t{{.Name}}\t{{.Status}}\t{{.Created}}\t{{.NumberOfContainers}}",
};

interface CreateFlags {
	name?: string;
	publish: PortForward[];
	network: string[];
	cpus: string;
	memory: string;
	kernel?: string;
	label: string[];
}

export function podCommand(): Command {
	const pod = new Command("pod").description("containers in one machine");
	for (const command of [create(), start(), stop(), ps(), rm(), inspect()]) pod.addCommand(command);
	pod.addCommand(supervise(), { hidden: true });
	return pod;
}

function create(): Command {
	return new Command("create")
		.description("make a pod, and print its ID")
		.argument("[name]", "a random one when missing")
		.option("-n, --name <name>", "as the argument")
		.option("-p, --publish <[address:]host:guest[/udp]>", "publish a port or a range; may be repeated", appendPorts, [])
		.option(
			"--network <none|user|NAME|tap=NAME|bridge=NAME>",
			"network; may be repeated (default: user; none without passt)",
			append,
			[],
		)
		.option("--cpus <n>", "vCPUs of its machine, 1 to 32", "1")
		.option("-m, --memory <size>", "RAM of its machine, as in 512M or 2G", "1G")
		.option("--kernel <name|file>", "a kernel of `tsvmm kernel ls`, or a vmlinux with everything built in")
		.option("-l, --label <name[=value]>", "set a label; may be repeated", append, [])
		.action(async (name: string | undefined, flags: CreateFlags) => {
			const config = readConfig(flags);
			const kernel = await containerKernel(flags.kernel, { onStep: () => undefined });
			/* Here, because the lab cannot write its initramfs. */
			await sharedShape({ kernel, cpus: config.cpus, memoryMiB: config.memoryMiB });
			await whereContainersAre(
				async () => {
					const made = await createPod(config, name ?? flags.name);
					process.stdout.write(`${made.id}\n`);
					return 0;
				},
				{ runs: true },
			);
		});
}

function readConfig(flags: CreateFlags): Omit<PodConfig, "version" | "id" | "name" | "created"> {
	const cpus = parseCpus(flags.cpus);
	const memoryMiB = parseMemory(flags.memory);
	validateSize(cpus, memoryMiB);
	const none = { publishAll: false, dns: [], dnsOption: [], dnsSearch: [], networkAlias: [] };
	const network = readNetwork({ ...none, publish: flags.publish, network: flags.network }, () => undefined);
	const labels = flags.label.map((text) => [text.split("=", 1)[0]!, text.split("=").slice(1).join("=")]);
	return {
		cpus,
		memoryMiB,
		...(network === undefined ? {} : { network }),
		...(flags.kernel === undefined ? {} : { kernel: flags.kernel }),
		labels: Object.fromEntries(labels),
	};
}

function start(): Command {
	return new Command("start")
		.description("start pods with all their containers")
		.argument("<pod...>")
		.action((names: string[]) => whereContainersAre(() => eachPod(names, startWholePod), { runs: true }));
}

function stop(): Command {
	return new Command("stop")
		.description("stop all containers of pods, and their machines")
		.argument("<pod...>")
		.option("-t, --time <seconds>", "how long to wait before containers are killed; -1: for ever")
		.action((names: string[], { time }: { time?: string }) => {
			const timeoutMs = time === undefined ? undefined : readSeconds(time) * 1000;
			return whereContainersAre(() => eachPod(names, (pod) => stopPod(pod, timeoutMs)));
		});
}

function rm(): Command {
	return new Command("rm")
		.description("remove pods with all their containers")
		.argument("<pod...>")
		.option("-f, --force", "kill containers that run first; a pod that is not there is no error", false)
		.action((names: string[], { force }: { force: boolean }) =>
			whereContainersAre(() => {
				const present = force ? names.filter((name) => isThere(name)) : names;
				return eachPod(present, (pod) => removePod(pod, { force }));
			}),
		);
}

function ps(): Command {
	return new Command("ps")
		.alias("ls")
		.alias("list")
		.description("list pods")
		.option("-q, --quiet", "IDs alone", false)
		.option("--format <format>", FORMAT_HELP)
		.option("--no-trunc", "whole IDs")
		.action(({ quiet, format, trunc }: { quiet: boolean; format?: string; trunc: boolean }) =>
			whereContainersAre(async () => {
				watchOutput();
				const complain = (error: unknown) => process.stderr.write(`tsvmm: ${explain(error)}\n`);
				const rows = listPods(complain).flatMap((pod) => {
					try {
						return [rowOf(pod, trunc)];
					} catch (error) {
						complain(error);
						return [];
					}
				});
				process.stdout.write(quiet ? rows.map(({ Id }) => `${Id}\n`).join("") : formatRows(rows, LISTING, format));
				return 0;
			}),
		);
}

function rowOf(pod: StoredPod, trunc: boolean): Row {
	const { name, created, labels } = pod.config;
	return {
		Id: trunc ? pod.shortId : pod.id,
		Name: name,
		Status: podStatus(pod),
		Created: `${describeDuration(Math.max(0, Date.now() - Date.parse(created)))} ago`,
		NumberOfContainers: `${pod.members().length}`,
		Labels: Object.entries(labels)
			.map(([label, value]) => `${label}=${value}`)
			.join(","),
	};
}

function inspect(): Command {
	return new Command("inspect")
		.description("print what is known of pods as JSON")
		.argument("<pod...>")
		.option("-f, --format <format>", FORMAT_HELP)
		.action((names: string[], { format }: { format?: string }) =>
			whereContainersAre(async () => {
				watchOutput();
				process.stdout.write(
					formatValues(
						names.map((name) => describe(findPod(name))),
						format,
					),
				);
				return 0;
			}),
		);
}

/** As podman's GET /libpod/pods/{name}/json. */
function describe(pod: StoredPod): Record<string, unknown> {
	const { config } = pod;
	const state = pod.state();
	const members = pod.members();
	return {
		Id: pod.id,
		Name: config.name,
		Created: config.created,
		State: podStatus(pod),
		Pid: state.pid,
		Error: state.error?.message ?? "",
		Labels: config.labels,
		SharedNamespaces: ["net"],
		NumContainers: members.length,
		Containers: members.map((container) => ({
			Id: container.id,
			Name: container.config.name,
			State: container.state().status,
		})),
		CPUs: config.cpus,
		Memory: config.memoryMiB * 2 ** 20,
		NetworkMode: networkName(config),
		Networks: networkNames(config),
	};
}

/** A pod's supervisor's own entry, not for users. */
function supervise(): Command {
	return new Command("supervise").argument("<id>").action(async (id: string) => {
		const onReady = readinessReporter("ERR_CONTAINER_FAILED");
		try {
			await supervisePod(findPod(id), { onReady });
		} catch (error) {
			onReady(error);
			throw error;
		}
	});
}

async function eachPod(names: readonly string[], work: (pod: StoredPod) => Promise<unknown>): Promise<number> {
	watchOutput();
	return await each(names, async (name) => {
		const pod = findPod(name);
		await work(pod);
		process.stdout.write(`${pod.id}\n`);
	});
}

function isThere(name: string): boolean {
	try {
		return findPod(name) !== undefined;
	} catch {
		return false;
	}
}

function append(text: string, before: string[]): string[] {
	return [...before, text];
}

function appendPorts(text: string, before: PortForward[]): PortForward[] {
	return [...before, ...parsePorts(text)];
}
