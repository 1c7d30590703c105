/*
 * The privileges of a container's processes as keys of EXEC, by Docker's rules: a default set of capabilities,
 * --cap-add and --cap-drop, --privileged, --security-opt no-new-privileges, --group-add and --ulimit.
 */
import type { ExecSpec, Rlimit } from "../agent/exec-spec.ts";
import { UsageError } from "../base/errors.ts";

/** capabilities(7), each at the place that is its number in <linux/capability.h>. */
const CAPABILITIES = [
	"CHOWN",
	"DAC_OVERRIDE",
	"DAC_READ_SEARCH",
	"FOWNER",
	"FSETID",
	"KILL",
	"SETGID",
	"SETUID",
	"SETPCAP",
	"LINUX_IMMUTABLE",
	"NET_BIND_SERVICE",
	"NET_BROADCAST",
	"NET_ADMIN",
	"NET_RAW",
	"IPC_LOCK",
	"IPC_OWNER",
	"SYS_MODULE",
	"SYS_RAWIO",
	"SYS_CHROOT",
	"SYS_PTRACE",
	"SYS_PACCT",
	"SYS_ADMIN",
	"SYS_BOOT",
	"SYS_NICE",
	"SYS_RESOURCE",
	"SYS_TIME",
	"SYS_TTY_CONFIG",
	"MKNOD",
	"LEASE",
	"AUDIT_WRITE",
	"AUDIT_CONTROL",
	"SETFCAP",
	"MAC_OVERRIDE",
	"MAC_ADMIN",
	"SYSLOG",
	"WAKE_ALARM",
	"BLOCK_SUSPEND",
	"AUDIT_READ",
	"PERFMON",
	"BPF",
	"CHECKPOINT_RESTORE",
];

/** Docker's default capabilities of root in a container. */
const DEFAULT = [
	"CHOWN",
	"DAC_OVERRIDE",
	"FSETID",
	"FOWNER",
	"MKNOD",
	"NET_RAW",
	"SETGID",
	"SETUID",
	"SETFCAP",
	"SETPCAP",
	"NET_BIND_SERVICE",
	"SYS_CHROOT",
	"KILL",
	"AUDIT_WRITE",
];

/** getrlimit(2). */
const LIMITS = [
	"as",
	"core",
	"cpu",
	"data",
	"fsize",
	"locks",
	"memlock",
	"msgqueue",
	"nice",
	"nofile",
	"nproc",
	"rss",
	"rtprio",
	"rttime",
	"sigpending",
	"stack",
];

/** The user's options for the privileges of a container's processes. */
export interface Privileges {
	/** All capabilities, nothing of /proc and /sys masked or read-only. */
	privileged?: boolean;
	/** Capabilities besides Docker's default ones, by name, with or without CAP_; or ALL. */
	capAdd?: readonly string[];
	/** Capabilities to remove from Docker's default ones; or ALL. */
	capDrop?: readonly string[];
	/** No setuid program, and no file with capabilities, gives a process more rights than it has. */
	noNewPrivileges?: boolean;
	/** Supplementary groups besides the user's own, by name or number. */
	groupAdd?: readonly string[];
	/** Resource limits in place of the usual ones. */
	ulimits?: readonly Rlimit[];
}

type Keys = Pick<ExecSpec, "capabilities" | "noNewPrivileges" | "groups" | "rlimits">;

/**
 * The keys of EXEC for a container's processes.
 *
 * @throws UsageError ERR_RUN_CAPABILITY for a capability that does not exist, ERR_RUN_ULIMIT for such a limit
 */
export function privilegeKeys(privileges: Privileges): Keys {
	for (const { name } of privileges.ulimits ?? []) checkLimit(name);
	return {
		capabilities: capabilitySet(privileges),
		noNewPrivileges: privileges.noNewPrivileges === true,
		groups: privileges.groupAdd ?? [],
		rlimits: privileges.ulimits ?? [],
	};
}

/** As in Docker: with ALL in one list, the other one has the exceptions. */
function capabilitySet({ privileged = false, capAdd = [], capDrop = [] }: Privileges): bigint {
	const add = capAdd.map(readCapability);
	const drop = capDrop.map(readCapability);
	const without = (names: readonly string[]) => names.filter((name) => !drop.includes(name));
	if (privileged) return bits(CAPABILITIES);
	if (add.includes("ALL")) return bits(without(CAPABILITIES));
	if (drop.includes("ALL")) return bits(add);
	return bits([...without(DEFAULT), ...add]);
}

/** The set of capabilities of these names, with CAP_; those that this list does not know are left out. */
export function capabilityBits(names: readonly string[]): bigint {
	return bits(names.map((name) => name.replace(/^CAP_/, "")).filter((name) => CAPABILITIES.includes(name)));
}

function bits(names: readonly string[]): bigint {
	return names.reduce((set, name) => set | (1n << BigInt(CAPABILITIES.indexOf(name))), 0n);
}

/** "cap_net_admin", "NET_ADMIN" -> "NET_ADMIN"; "all" -> "ALL" */
function readCapability(text: string): string {
	const name = text.toUpperCase().replace(/^CAP_/, "");
	if (name === "ALL" || CAPABILITIES.includes(name)) return name;
	throw new UsageError("ERR_RUN_CAPABILITY", `Cannot use capability "${text}": there is none of that name`, {
		hint: "Name it as capabilities(7) does, as in NET_ADMIN, or ALL",
	});
}

/**
 * Reads a `--ulimit`: "nofile=1024" or "nofile=1024:4096", soft and hard, where -1 means unlimited.
 *
 * @throws UsageError ERR_RUN_ULIMIT
 */
export function readUlimit(text: string): Rlimit {
	const [, name = "", first, second = first] = /^(\w+)=(-1|\d{1,15})(?::(-1|\d{1,15}))?$/.exec(text) ?? [];
	if (first === undefined || second === undefined) {
		throw new UsageError("ERR_RUN_ULIMIT", `Cannot read limit "${text}"`, {
			hint: "Write NAME=SOFT[:HARD], as in nofile=1024:4096",
		});
	}
	checkLimit(name);
	const [soft, hard] = [readLimit(first), readLimit(second)];
	if (hard !== "unlimited" && (soft === "unlimited" || soft > hard)) {
		throw new UsageError("ERR_RUN_ULIMIT", `Cannot use limit "${text}": its soft limit is above its hard limit`);
	}
	return { name, soft, hard };
}

function readLimit(text: string): number | "unlimited" {
	return text === "-1" ? "unlimited" : Number(text);
}

function checkLimit(name: string): void {
	if (LIMITS.includes(name)) return;
	throw new UsageError("ERR_RUN_ULIMIT", `Cannot set limit "${name}": there is none of that name`, {
		hint: `Use one of ${LIMITS.join(", ")}`,
	});
}
