/*
 * The flags by which a container joins a machine of others, and what limits it there and in its own.
 */
import { UsageError } from "../../base/errors.ts";
import { parseCpus, parseMemory } from "../options.ts";
import type { ContainerFlags } from "./flags.ts";

/** What the user calls the machine that the container joins. */
export interface JoinRequest {
	kind: "pod" | "container";
	name: string;
}

/** @throws UsageError ERR_RUN_JOIN for what only the machine's own network can have */
export function readJoin(flags: ContainerFlags): JoinRequest | undefined {
	const { pod, network } = flags;
	const owner = network.map((text) => /^container:(.+)$/.exec(text)?.[1]).find((name) => name !== undefined);
	if (pod === undefined && owner === undefined) return undefined;
	const join: JoinRequest = pod === undefined ? { kind: "container", name: owner! } : { kind: "pod", name: pod };
	const looksOn = {
		"--trace": flags.trace !== undefined,
		"--trace-file": flags.traceFile.length > 0,
		"--fault": flags.fault.length > 0,
	};
	const given: Record<string, boolean> = {
		"--network": network.length > (pod === undefined ? 1 : 0),
		"-p": flags.publish.length > 0,
		"-P": flags.publishAll,
		"--ip": flags.ip !== undefined,
		"--gateway": flags.gateway !== undefined,
		"--kernel": flags.kernel !== undefined,
		"--cmdline": flags.cmdline !== undefined,
		"--console": flags.console !== undefined,
		"--cold": flags.cold,
		...looksOn,
	};
	const refused = Object.keys(given).find((flag) => given[flag]);
	if (refused !== undefined) throw joinRefusal(refused, join, !(refused in looksOn));
	return join;
}

/**
 * Why a container that joins another's machine cannot have a flag.
 *
 * @param podsHaveIt `pod create` has the flag, too
 */
export function joinRefusal(flag: string, { kind, name }: JoinRequest, podsHaveIt: boolean): UsageError {
	const ofPod = podsHaveIt ? "Give it to tsvmm pod create" : "Run the container without --pod, in a machine of its own";
	return new UsageError("ERR_RUN_JOIN", `Cannot use ${flag} for a container in the machine of ${kind} ${name}`, {
		hint: kind === "pod" ? ofPod : `Give it to container ${name}`,
	});
}

/** In a machine with others, processors and RAM are limited by the control group. */
export function readLimits(flags: ContainerFlags): Record<string, string> {
	const { pidsLimit, cpus, memory } = flags;
	const joins = readJoin(flags) !== undefined;
	return {
		...(pidsLimit === undefined ? {} : { "pids.max": readPidsLimit(pidsLimit) }),
		...(joins && memory !== undefined ? { "memory.max": `${parseMemory(memory) * 2 ** 20}` } : {}),
		...(joins && cpus !== undefined ? { "cpu.max": `${parseCpus(cpus) * 100_000} 100000` } : {}),
	};
}

/** 0 and -1: no limit, as in Docker. */
export function readPidsLimit(text: string): string {
	if (/^(-1|0)$/.test(text)) return "max";
	if (/^[1-9]\d{0,8}$/.test(text)) return text;
	throw new UsageError("ERR_RUN_PIDS", `Cannot read number of processes "${text}": a whole number is wanted`);
}
