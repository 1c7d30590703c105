/*
 * config.json of all kinds: each one that cannot be run is refused with a message, and one that a Go program has written,
 * with null for what it does not have, is taken.
 */
import { writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { readBundle } from "../../src/oci/bundle.ts";
import { sandboxOf } from "../../src/oci/pod.ts";
import { OciError } from "../../src/oci/runtime-error.ts";
import { hostProcess, OciContainer } from "../../src/oci/state.ts";
import { systemOf } from "../../src/oci/system.ts";
import { defaultConfig, type Json, TestBundle } from "./bundles.ts";

/** The default configuration with a change. */
function changed(change: (config: Json & { process: Json }) => void): Json {
	const config = defaultConfig();
	change(config);
	return config;
}

const mounts = (mount: unknown) => changed((config) => Object.assign(config, { mounts: [mount] }));
const linux = (part: Json) => changed((config) => Object.assign(config, { linux: part }));
const ofProcess = (part: Json) => changed((config) => Object.assign(config.process, part));

const MALFORMED: [what: string, config: unknown, message: RegExp][] = [
	["no file", undefined, /^JSON specification file config\.json not found$/],
	["an empty file", "", /EOF/],
	["half of a file", '{"process": {', /cannot parse JSON/],
	["no JSON", "process: sh", /cannot parse JSON/],
	["null", "null", /^config cannot be null$/],
	["a list", "[]", /cannot unmarshal/],
	["a number", "7", /cannot unmarshal/],
	["nothing at all", {}, /^process property must not be empty$/],
	["no process", changed((config) => Object.assign(config, { process: null })), /^process property must not be empty$/],
	["a process that is text", changed((config) => Object.assign(config, { process: "sh" })), /unmarshal process/],
	["no args", ofProcess({ args: [] }), /^args must not be empty$/],
	["null as args", ofProcess({ args: null }), /^args must not be empty$/],
	["args that are text", ofProcess({ args: "sh" }), /unmarshal process\.args/],
	["an arg that is a number", ofProcess({ args: ["sh", 7] }), /unmarshal process\.args\.1/],
	["no cwd", ofProcess({ cwd: undefined }), /^Cwd property must not be empty$/],
	["an empty cwd", ofProcess({ cwd: "" }), /^Cwd property must not be empty$/],
	["a relative cwd", ofProcess({ cwd: "tmp" }), /^Cwd must be an absolute path$/],
	["a cwd that is a number", ofProcess({ cwd: 7 }), /unmarshal process\.cwd/],
	["env that is a map", ofProcess({ env: { A: "b" } }), /unmarshal process\.env/],
	["a user that is a name", ofProcess({ user: "root" }), /unmarshal process\.user/],
	["a uid that is text", ofProcess({ user: { uid: "0" } }), /unmarshal process\.user\.uid/],
	["capabilities that are a list", ofProcess({ capabilities: ["CAP_KILL"] }), /unmarshal process\.capabilities/],
	["rlimits that are a map", ofProcess({ rlimits: { nofile: 7 } }), /unmarshal process\.rlimits/],
	["a limit without a type", ofProcess({ rlimits: [{ soft: 1, hard: 1 }] }), /unmarshal process\.rlimits\.0\.type/],
	["a terminal that is text", ofProcess({ terminal: "yes" }), /unmarshal process\.terminal/],
	["no root", changed((config) => Object.assign(config, { root: undefined })), /^root must be specified$/],
	["a root that is text", changed((config) => Object.assign(config, { root: "rootfs" })), /unmarshal root/],
	["a root without a path", changed((config) => Object.assign(config, { root: {} })), /unmarshal root\.path/],
	["a root that is not there", changed((config) => Object.assign(config, { root: { path: "nope" } })), /no such file/],
	["a root that is a file", changed((config) => Object.assign(config, { root: { path: "config.json" } })), /not a dir/],
	["mounts that are a map", changed((config) => Object.assign(config, { mounts: {} })), /unmarshal mounts/],
	["a mount without a destination", mounts({ type: "tmpfs" }), /unmarshal mounts\.0\.destination/],
	["mount options that are text", mounts({ destination: "/a", options: "ro" }), /unmarshal mounts\.0\.options/],
	["a mount of an unknown kind", mounts({ destination: "/a", type: "zfs", source: "pool" }), /no such device/],
	["a mount of no kind", mounts({ destination: "/a" }), /no such device/],
	["a bind of nothing", mounts({ destination: "/a", type: "bind", source: "/nope/x" }), /stat \/nope\/x: no such file/],
	["a bind without a source", mounts({ destination: "/a", type: "bind" }), /no such file/],
	["a destination with a tab", mounts({ destination: "/a\tb", type: "tmpfs" }), /invalid mount destination/],
	["hooks that are a list", changed((config) => Object.assign(config, { hooks: [] })), /unmarshal hooks/],
	["a hook without a path", changed((c) => Object.assign(c, { hooks: { poststop: [{}] } })), /poststop\.0\.path/],
	["annotations that are a list", changed((config) => Object.assign(config, { annotations: ["a"] })), /annotations/],
	["an annotation that is a number", changed((c) => Object.assign(c, { annotations: { a: 7 } })), /annotations\.a/],
	["namespaces that are text", linux({ namespaces: "pid" }), /unmarshal linux\.namespaces/],
	["a device without a path", linux({ devices: [{ type: "c" }] }), /unmarshal linux\.devices\.0\.path/],
	["memory that is text", linux({ resources: { memory: { limit: "1g" } } }), /resources\.memory\.limit/],
	["sysctl that is a list", linux({ sysctl: ["a=b"] }), /unmarshal linux\.sysctl/],
	["masked paths that are text", linux({ maskedPaths: "/proc" }), /unmarshal linux\.maskedPaths/],
];

test("there are forty kinds of malformed bundles", () => {
	expect(MALFORMED.length).toBeGreaterThanOrEqual(40);
});

test.each(MALFORMED)("refused: %s", (_what, config, message) => {
	using bundle = new TestBundle(config);
	const reading = () => systemOf(new OciContainer("/none", "name"), readBundle(bundle.path));
	expect(reading).toThrow(OciError);
	expect(reading).toThrow(message);
});

test("a bundle that is not there is refused", () => {
	expect(() => readBundle("/nope")).toThrow("chdir /nope: no such file or directory");
});

test("null stands for what is missing", () => {
	const config = changed((one) => {
		Object.assign(one, { mounts: null, hooks: null, annotations: null, linux: null, hostname: null });
		Object.assign(one.process, { env: null, capabilities: null, rlimits: null, user: null });
	});
	using bundle = new TestBundle(config);
	const { process } = readBundle(bundle.path);
	expect(process).toMatchObject({ args: ["sh"], env: [], rlimits: [], cwd: "/" });
});

test("what config.json says becomes steps in the order of its mounts", () => {
	const config = mounts({ destination: "/data", type: "bind", source: "HERE", options: ["rbind", "ro", "rprivate"] });
	using bundle = new TestBundle(config);
	const [mount] = config.mounts as Json[];
	mount!.source = join(bundle.path, "rootfs");
	(config.mounts as Json[]).push(
		{ destination: "/etc/hosts", type: "bind", source: join(bundle.path, "hosts"), options: ["bind", "nosuid"] },
		{ destination: "/tmp", type: "tmpfs", source: "tmpfs", options: ["size=64k", "tmpcopyup", "noexec"] },
		{ destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["ro", "nsdelegate=1"] },
	);
	writeFileSync(join(bundle.path, "hosts"), "");
	writeFileSync(join(bundle.path, "config.json"), JSON.stringify(config));
	const container = new OciContainer("/none", "name");
	const name = container.agentName;
	const { shares, steps } = systemOf(container, readBundle(bundle.path));
	expect(shares).toEqual([
		{ name: `${name}-root`, path: join(bundle.path, "rootfs"), readOnly: false },
		{ name: `${name}-0`, path: join(bundle.path, "rootfs"), readOnly: true },
		{ name: `${name}-1`, path: join(bundle.path, "hosts"), readOnly: false },
	]);
	expect(steps.slice(0, 11)).toEqual([
		["namespaces", "uts,ipc,cgroup"],
		["cgroup?", name],
		["take", `root\t/run/shares/${name}-root`],
		["take", `${name}-0\t/run/shares/${name}-0`],
		["take", `${name}-1\t/run/shares/${name}-1/hosts`],
		["attach", "root\t/run/root\t"],
		["switch", "/run/root"],
		["attach", `${name}-0\t/data\tro`],
		["attach", `${name}-1\t/etc/hosts\tnosuid`],
		["mount", "tmpfs\ttmpfs\t/tmp\tsize=64k,tmpcopyup,noexec"],
		["mount?", "cgroup2\tcgroup\t/sys/fs/cgroup\tro"],
	]);
	expect(steps.at(-1)).toEqual(["mount", "\t\t/\tremount,bind,ro"]);
});

/** Containers that run: "pod" has a machine, and "web" is in it. They are this process and its parent. @returns a third one */
function podIn(root: string): OciContainer {
	for (const [id, pid] of [
		["pod", process.pid],
		["web", process.ppid],
	] as const) {
		const one = hostProcess(pid);
		const record = {
			id,
			status: "running",
			process: one,
			machine: one,
			bundle: "/",
			rootfs: "/",
			created: "",
		} as const;
		const container = new OciContainer(root, id);
		container.make();
		container.write({ ...record, annotations: {}, sandbox: "pod", terminal: false, cgroups: [] });
	}
	return new OciContainer(root, "own");
}

test("a container of a pod has the namespaces that its paths name, and no name of its own then", () => {
	const config = defaultConfig();
	const namespaces = [
		{ type: "mount" },
		{ type: "network", path: `/proc/${process.pid}/ns/net` },
		{ type: "uts", path: `/proc/${process.pid}/ns/uts` },
		{ type: "ipc", path: `/proc/${process.ppid}/ns/ipc` },
		{ type: "pid", path: "/var/run/elsewhere" },
	];
	const annotations = {
		"io.kubernetes.cri.container-type": "container",
		"io.kubernetes.cri.sandbox-id": "pod",
	};
	using bundle = new TestBundle({ ...config, hostname: "own", annotations, linux: { namespaces } });
	const own = podIn(join(bundle.path, "state"));
	const [pod, web] = [own.sibling("pod").agentName, own.sibling("web").agentName];
	const { steps } = systemOf(own, readBundle(bundle.path));
	expect(steps.slice(0, 3)).toEqual([
		["namespaces", "cgroup"],
		["join", `${pod}\tuts,pid`],
		["join", `${web}\tipc`],
	]);
	expect(steps.map(([step]) => step)).not.toContain("hostname");
});

test("a container with a UTS namespace and no name has the host's, as runc's has", () => {
	const config = { ...defaultConfig(), hostname: undefined, linux: { namespaces: [{ type: "uts" }] } };
	using bundle = new TestBundle(config);
	const { steps } = systemOf(new OciContainer(bundle.path, "a"), readBundle(bundle.path));
	expect(steps).toContainEqual(["hostname", hostname()]);
});

test("a container that is to have a namespace of another one is in its machine", () => {
	const sandbox = (path: string, annotations = {}) => {
		const linux = { namespaces: [{ type: "network", path }] };
		using bundle = new TestBundle({ ...defaultConfig(), annotations, linux });
		return sandboxOf(podIn(join(bundle.path, "state")), readBundle(bundle.path).config);
	};
	expect(sandbox(`/proc/${process.ppid}/ns/net`)).toBe("pod");
	for (const path of ["", "/proc/1/ns/net", "/run/netns/some", `/proc/${process.pid}/root`])
		expect(sandbox(path), path).toBeUndefined();
	/* What its caller says comes first. */
	const annotations = { "io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": "other" };
	expect(sandbox(`/proc/${process.ppid}/ns/net`, annotations)).toBe("other");
});
