/*
 * The flags of `run` that shape the system in a container, read by Docker's rules: --tmpfs, --sysctl, --add-host.
 */
import { isIP } from "node:net";
import { UsageError } from "../base/errors.ts";
import type { ExtraHost, TmpfsMount } from "./setup-steps.ts";

/**
 * Reads a `--tmpfs`: "/run" or "/run:size=64m,mode=1770".
 *
 * @throws UsageError ERR_RUN_TMPFS for a path that is not absolute
 */
export function readTmpfs(text: string): TmpfsMount {
	const [, target, options = ""] = /^(\/[^:\t]+)(?::([^\t]*))?$/.exec(text) ?? [];
	if (target !== undefined) return { target, ...(options === "" ? {} : { options }) };
	throw new UsageError("ERR_RUN_TMPFS", `Cannot mount a tmpfs at "${text}": its path is not absolute`, {
		hint: "Write PATH[:OPTIONS], as in /run:size=64m",
	});
}

/**
 * Reads a `--sysctl`: "net.ipv4.ip_forward=1".
 *
 * @returns name and value
 * @throws UsageError ERR_RUN_SYSCTL
 */
export function readSysctl(text: string): [name: string, value: string] {
	const [, name, value] = /^(\w[\w./-]*)=([^\n]*)$/.exec(text) ?? [];
	if (name !== undefined && value !== undefined && !/(^|\/)\.*\//.test(name)) return [name, value];
	throw new UsageError("ERR_RUN_SYSCTL", `Cannot read kernel parameter "${text}"`, {
		hint: "Write NAME=VALUE, as in net.ipv4.ip_forward=1",
	});
}

/**
 * Reads an `--add-host`: "name:10.0.0.1", "name=::1" or "name:[::1]".
 *
 * @throws UsageError ERR_RUN_ADD_HOST
 */
export function readExtraHost(text: string): ExtraHost {
	const [, name, address = ""] = /^([\w][\w.-]*)[:=]\[?([^\]]*)\]?$/.exec(text) ?? [];
	if (name !== undefined && isIP(address) > 0) return { name, address };
	throw new UsageError("ERR_RUN_ADD_HOST", `Cannot add host "${text}"`, {
		hint: "Write NAME:ADDRESS, as in db:10.0.0.7",
	});
}
