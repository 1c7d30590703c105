/*
 * A process of the OCI runtime-spec (config.md, "Process") as the agent takes it.
 */
import type { ExecSpec, Rlimit } from "../agent/exec-spec.ts";
import { capabilityBits } from "../container/privileges.ts";
import type { Process } from "./bundle.ts";

/** RLIM_INFINITY, as JSON has it. */
const UNLIMITED = 2 ** 63;
const DEFAULT_SIZE = { columns: 80, rows: 24 };

/** What is to be executed, without its container. */
export function execOf(process: Process): ExecSpec {
	const { user, capabilities, consoleSize, rlimits, oomScoreAdj, noNewPrivileges = false } = process;
	const { uid = 0, gid = 0, additionalGids = [], umask } = user ?? {};
	return {
		args: process.args,
		env: process.env,
		cwd: process.cwd ?? "/",
		user: `${uid}:${gid}`,
		groups: additionalGids.map(String),
		onlyGroups: true,
		/* Without the property, a process has none at all. */
		capabilities: capabilityBits(capabilities?.bounding ?? []),
		ambient: capabilityBits(capabilities?.ambient ?? []),
		noNewPrivileges,
		rlimits: rlimits.map(limitOf),
		...(umask === undefined ? {} : { umask }),
		...(oomScoreAdj === undefined ? {} : { oomScoreAdj }),
		...(process.terminal === true
			? { tty: consoleSize === undefined ? DEFAULT_SIZE : { columns: consoleSize.width, rows: consoleSize.height } }
			: {}),
	};
}

function limitOf({ type, soft, hard }: Process["rlimits"][number]): Rlimit {
	const bound = (value: number) => (value >= UNLIMITED || value < 0 ? "unlimited" : value);
	return { name: type.replace(/^RLIMIT_/, "").toLowerCase(), soft: bound(soft), hard: bound(hard) };
}
