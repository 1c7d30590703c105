/*
 * The instructions of a Dockerfile that `commit --change` takes: each changes how containers of the image start.
 */
import { UsageError } from "../../base/errors.ts";
import type { RunConfig } from "./commit.ts";

/**
 * Applies instructions in order.
 *
 * @throws UsageError ERR_COMMIT_CHANGE
 * @example applyInstructions({}, ['CMD ["sh"]']); // { Cmd: ["sh"] }
 */
export function applyInstructions(config: RunConfig, lines: readonly string[]): RunConfig {
	const changed = { ...config };
	for (const line of lines) Object.assign(changed, read(line, changed));
	return changed;
}

function read(line: string, before: RunConfig): RunConfig {
	const [, word = "", rest = ""] = /^\s*(\S+)\s*([\s\S]*?)\s*$/.exec(line) ?? [];
	if (rest === "") throw refused(line, "it says nothing");
	switch (word.toUpperCase()) {
		case "CMD":
			return { Cmd: command(rest) };
		case "ENTRYPOINT":
			return { Entrypoint: command(rest) };
		case "ENV":
			return { Env: withVariables((before.Env ?? []) as string[], pairs(line, rest)) };
		case "LABEL":
			return { Labels: { ...(before.Labels as object | null), ...Object.fromEntries(pairs(line, rest)) } };
		case "EXPOSE":
			return { ExposedPorts: { ...(before.ExposedPorts as object | null), ...set(ports(line, rest)) } };
		case "VOLUME":
			return { Volumes: { ...(before.Volumes as object | null), ...set(list(rest) ?? rest.split(/\s+/)) } };
		case "USER":
			return { User: rest };
		case "WORKDIR":
			return { WorkingDir: rest.startsWith("/") ? rest : `${before.WorkingDir ?? ""}/${rest}` };
		case "STOPSIGNAL":
			return { StopSignal: rest };
		default:
			throw refused(line, `${word} is none of CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR`);
	}
}

/** A JSON list, or a line for a shell. */
function command(text: string): string[] {
	return list(text) ?? ["/bin/sh", "-c", text];
}

function list(text: string): string[] | undefined {
	try {
		const value = JSON.parse(text) as unknown;
		return Array.isArray(value) && value.every((one) => typeof one === "string") ? value : undefined;
	} catch {
		return undefined;
	}
}

/** NAME=value..., with quotes, or the old form NAME value. */
function pairs(line: string, text: string): [string, string][] {
	if (!/^[^\s=]+=/.test(text)) {
		const [, name, value] = /^(\S+)\s+([\s\S]+)$/.exec(text) ?? [];
		if (name === undefined || value === undefined) throw refused(line, "NAME=VALUE is wanted");
		return [[name, value]];
	}
	const words = text.match(/(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\])+/g) ?? [];
	return words.map((word) => {
		const plain = word.replace(/"((?:\\.|[^"\\])*)"|'([^']*)'|\\(.)/g, (_, double, single, escaped) => {
			return double === undefined ? (single ?? escaped) : (double as string).replace(/\\(.)/g, "$1");
		});
		const at = plain.indexOf("=");
		if (at < 1) throw refused(line, "NAME=VALUE is wanted");
		return [plain.slice(0, at), plain.slice(at + 1)];
	});
}

function withVariables(env: readonly string[], changes: readonly [string, string][]): string[] {
	const all = new Map(env.map((variable) => [variable.split("=", 1)[0]!, variable]));
	for (const [name, value] of changes) all.set(name, `${name}=${value}`);
	return [...all.values()];
}

function ports(line: string, text: string): string[] {
	return text.split(/\s+/).map((port) => {
		if (!/^\d{1,5}(\/(tcp|udp))?$/.test(port)) throw refused(line, `${port} is no port`);
		return port.includes("/") ? port : `${port}/tcp`;
	});
}

function set(names: readonly string[]): Record<string, object> {
	return Object.fromEntries(names.map((name) => [name, {}]));
}

function refused(line: string, why: string): UsageError {
	return new UsageError("ERR_COMMIT_CHANGE", `Cannot apply "${line}" to the image: ${why}`);
}
