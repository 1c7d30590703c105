/*
 * `tsvmm inspect`: all that is known of a container, in the shape that Docker gives it.
 */

import { constants } from "node:os";
import { Command } from "commander";
import type { PortForward } from "../../backends/passt-ports.ts";
import { faultText } from "../../base/faults.ts";
import { type ContainerConfig, networkName, networkNames, publishedPorts } from "../../container/life/config.ts";
import type { ContainerState } from "../../container/life/state.ts";
import { ContainerStore, type StoredContainer } from "../../container/life/store.ts";
import { FORMAT_HELP } from "../format.ts";
import { inspectEach } from "../inspect.ts";
import { watchOutput } from "../output.ts";
import { whereContainersAre } from "./where.ts";

export function inspectCommand(): Command {
	return new Command("inspect")
		.description("print what is known of containers as JSON")
		.argument("<container...>")
		.option("-f, --format <format>", FORMAT_HELP)
		.action((names: string[], { format }: { format?: string }) => whereContainersAre(() => inspect(names, format)));
}

async function inspect(names: string[], format: string | undefined): Promise<number> {
	watchOutput();
	const store = new ContainerStore();
	return await inspectEach(names, (name) => describe(store.find(name)), format);
}

/** As Docker's GET /containers/{id}/json. */
function describe(container: StoredContainer): Record<string, unknown> {
	const { config, paths } = container;
	const state = container.state();
	const { args, env, cwd, user, tty, openStdin, stdinOnce } = config.process;
	const never = "0001-01-01T00:00:00Z";
	const running = state.status === "running" || state.status === "paused" || state.status === "restarting";
	return {
		Id: container.id,
		Created: config.created,
		Path: args[0],
		Args: args.slice(1),
		State: {
			Status: state.status,
			Running: running,
			Paused: state.status === "paused",
			Restarting: state.status === "restarting",
			OOMKilled: false,
			Dead: false,
			Pid: running ? state.pid : 0,
			ExitCode: state.exitCode,
			Error: state.error?.message ?? "",
			StartedAt: state.startedAt || never,
			FinishedAt: state.finishedAt || never,
			...(state.health === undefined
				? {}
				: { Health: { Status: state.health.status, FailingStreak: state.health.failingStreak } }),
		},
		Image: config.image.id,
		Pod: config.joins?.kind === "pod" ? config.joins.id : "",
		LogPath: config.logDriver === "none" ? "" : paths.log,
		Name: `/${config.name}`,
		RestartCount: state.restartCount,
		Driver: "ext4",
		Platform: "linux",
		HostConfig: {
			AutoRemove: config.autoRemove,
			Memory: config.memoryMiB * 2 ** 20,
			NanoCpus: config.cpus * 1e9,
			NetworkMode: networkName(config),
			PortBindings: portBindings(publishedPorts(config)),
			RestartPolicy: { Name: config.restart.name, MaximumRetryCount: config.restart.maximumRetryCount },
			LogConfig: { Type: config.logDriver, Config: config.logOptions ?? {} },
			Devices: (config.devices ?? []).map(({ source, target, readOnly }) => ({
				PathOnHost: source,
				PathInContainer: target,
				CgroupPermissions: readOnly ? "r" : "rwm",
			})),
			StorageOpt: { size: `${config.writableBytes}` },
			Annotations: config.annotations,
			TraceFiles: (config.observed?.traceFiles ?? []).map(({ path }) => path),
			Faults: (config.observed?.faults?.rules ?? []).map(faultText),
			FaultSeed: config.observed?.faults?.seed ?? null,
		},
		GraphDriver: { Name: "ext4", Data: { UpperImage: paths.writable } },
		Mounts: config.mounts.map(({ type, source, target, readOnly, volume }) => ({
			Type: type,
			...(volume === undefined ? {} : { Name: volume, Driver: "local" }),
			Source: source,
			Destination: target,
			Mode: "",
			RW: !readOnly,
			Propagation: "",
		})),
		Config: {
			Hostname: config.hostname,
			User: user,
			Tty: tty,
			OpenStdin: openStdin,
			StdinOnce: stdinOnce,
			Env: env,
			Cmd: args,
			Image: config.image.name,
			WorkingDir: cwd,
			Entrypoint: null,
			Labels: config.labels,
			StopSignal: signalName(config.stopSignal),
			StopTimeout: config.stopTimeoutMs / 1000,
			ExposedPorts: Object.fromEntries(config.exposedPorts.map((port) => [port, {}])),
		},
		NetworkSettings: {
			Ports: portBindings(container.livePorts()),
			Networks: describeNetworks(config, running ? state.endpoints : undefined),
		},
	};
}

/** Docker's EndpointSettings of each network. */
function describeNetworks(config: ContainerConfig, endpoints: ContainerState["endpoints"] = []) {
	return Object.fromEntries(
		networkNames(config).map((name, index) => {
			const device = config.network?.attachments[index]?.device;
			const endpoint = device?.kind === "network" ? endpoints.find(({ network }) => network === name) : undefined;
			return [
				name,
				{
					IPAddress: endpoint?.address ?? "",
					IPPrefixLen: endpoint?.prefixLength ?? 0,
					Gateway: endpoint?.gateway ?? "",
					MacAddress: endpoint?.mac ?? "",
					Aliases: device?.kind === "network" ? device.aliases : [],
				},
			];
		}),
	);
}

function portBindings(ports: readonly PortForward[]): Record<string, unknown[]> {
	const bindings: Record<string, unknown[]> = {};
	for (const port of ports) {
		const key = `${port.guestPort}/${port.protocol}`;
		bindings[key] = [...(bindings[key] ?? []), { HostIp: port.hostAddress ?? "0.0.0.0", HostPort: `${port.hostPort}` }];
	}
	return bindings;
}

function signalName(number: number): string {
	return Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? `${number}`;
}
