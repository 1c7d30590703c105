/*
 * What EXEC asks for, and its list of keys (docs/agent.md).
 */

/** A process to run in the guest. */
export interface ExecSpec {
	/** argv; args[0] is looked up in the PATH of `env` unless it has a slash. */
	args: readonly string[];
	/** The whole environment. A missing HOME comes from the passwd file. */
	env?: Readonly<Record<string, string>> | readonly string[];
	/** Default "/". Created if missing unless `createCwd` is false. */
	cwd?: string;
	createCwd?: boolean;
	/** "name", "uid", "name:group", "uid:gid"; the agent's own user (root) when missing. */
	user?: string;
	/** The container whose namespaces and root it gets. When missing: the agent's own. */
	container?: string;
	/** It becomes the container's process 1, once; the container ends with it, also when it cannot be started. */
	init?: boolean;
	/** A program of the agent's by name: "busybox". `args` is its argv; nothing is looked up in PATH or in the container. */
	tool?: string;
	/** chroot there first. */
	root?: string;
	/** A terminal of this size instead of pipes. */
	tty?: { columns: number; rows: number };
	/** "null": /dev/null instead of a pipe. */
	stdin?: "pipe" | "null";
	/**
	 * Its bounding set, bit n for capability number n; root has these, permitted and effective, another user none. All of
	 * the agent's when missing.
	 */
	capabilities?: bigint;
	/** Capabilities of `capabilities` that another user than root has as well, and keeps when it executes a program. */
	ambient?: bigint;
	/** PR_SET_NO_NEW_PRIVS: no program that it executes gets more rights than it has. */
	noNewPrivileges?: boolean;
	/** Which system calls it may use, and all that it starts. */
	seccomp?: SeccompFilter;
	/** Supplementary groups besides the user's own, by name or number. */
	groups?: readonly string[];
	/** It has no supplementary groups but `groups`: neither its own nor those that /etc/group names. */
	onlyGroups?: boolean;
	rlimits?: readonly Rlimit[];
	/** The umask when it starts; 0o022 when missing. */
	umask?: number;
	/** oom_score_adj, -1000 to 1000. */
	oomScoreAdj?: number;
}

/** A filter of seccomp(2). */
export interface SeccompFilter {
	/** struct sock_filter, eight bytes each; at most 4096 of them. */
	program: Uint8Array;
	/** SECCOMP_FILTER_FLAG_* */
	flags: number;
}

/** A resource limit of getrlimit(2). */
export interface Rlimit {
	/** "nofile" for RLIMIT_NOFILE. */
	name: string;
	/** What counts; a process may raise it up to `hard`. In the limit's own unit. */
	soft: number | "unlimited";
	/** What only CAP_SYS_RESOURCE raises. */
	hard: number | "unlimited";
}

/** The keys of EXEC, in the order in which they are sent. */
export function execEntries(spec: ExecSpec): [key: string, value: string][] {
	const entries: [string, string][] = spec.args.map((arg) => ["arg", arg]);
	const add = (key: string, value: string | number | undefined) => {
		if (value !== undefined) entries.push([key, `${value}`]);
	};
	const env = spec.env ?? {};
	const variables = isList(env) ? env : Object.entries(env).map(([key, value]) => `${key}=${value}`);
	for (const variable of variables) add("env", variable);
	add("cwd", spec.cwd);
	if (spec.createCwd === false) add("mkcwd", 0);
	add("user", spec.user);
	add("container", spec.container);
	if (spec.init === true) add("init", 1);
	add("tool", spec.tool);
	add("root", spec.root);
	if (spec.tty !== undefined) add("tty", `${spec.tty.columns}x${spec.tty.rows}`);
	if (spec.stdin === "null") add("stdin", "null");
	add("caps", spec.capabilities?.toString(16));
	add("ambient", spec.ambient?.toString(16));
	if (spec.noNewPrivileges === true) add("nnp", 1);
	if (spec.seccomp !== undefined)
		add("seccomp", `${spec.seccomp.flags}:${Buffer.from(spec.seccomp.program).toString("hex")}`);
	for (const group of spec.groups ?? []) add("group", group);
	if (spec.onlyGroups === true) add("groups", "only");
	for (const { name, soft, hard } of spec.rlimits ?? []) add("rlimit", `${name}:${soft}:${hard}`);
	add("umask", spec.umask?.toString(8));
	add("oom", spec.oomScoreAdj);
	return entries;
}

function isList(env: NonNullable<ExecSpec["env"]>): env is readonly string[] {
	return Array.isArray(env);
}
