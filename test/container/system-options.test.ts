/*
 * Flags that shape the system in a container, and the steps that they become.
 */
import { describe, expect, test } from "vitest";
import { type ContainerSystem, machineSteps, setupSteps } from "../../src/container/setup-steps.ts";
import { readExtraHost, readSysctl, readTmpfs } from "../../src/container/system-options.ts";

describe("flags", () => {
	test("readTmpfs takes a path and options", () => {
		expect(readTmpfs("/run")).toEqual({ target: "/run" });
		expect(readTmpfs("/run:")).toEqual({ target: "/run" });
		expect(readTmpfs("/run:size=1m,exec")).toEqual({ target: "/run", options: "size=1m,exec" });
	});
	test.each(["", "run", "run:/x", "/a\tb", ":size=1m"])("readTmpfs refuses %j", (text) => {
		expect(() => readTmpfs(text)).toThrow(expect.objectContaining({ code: "ERR_RUN_TMPFS" }));
	});
	test("readSysctl takes a name and a value", () => {
		expect(readSysctl("net.ipv4.ip_forward=1")).toEqual(["net.ipv4.ip_forward", "1"]);
		expect(readSysctl("kernel.sem=250 32000=x")).toEqual(["kernel.sem", "250 32000=x"]);
		expect(readSysctl("net/ipv4/conf/eth0.1/forwarding=1")[0]).toBe("net/ipv4/conf/eth0.1/forwarding");
	});
	test.each(["", "a", "=1", "../x=1", "a/../b=1", "/abs=1", "a//b=1", "a\tb=1", "a=1\n2"])(
		"readSysctl refuses %j",
		(text) => {
			expect(() => readSysctl(text)).toThrow(expect.objectContaining({ code: "ERR_RUN_SYSCTL" }));
		},
	);
	test("readExtraHost takes a name and an address", () => {
		expect(readExtraHost("db:10.0.0.7")).toEqual({ name: "db", address: "10.0.0.7" });
		expect(readExtraHost("db.x=::1")).toEqual({ name: "db.x", address: "::1" });
		expect(readExtraHost("db:[fe80::1]")).toEqual({ name: "db", address: "fe80::1" });
	});
	test.each(["db", "db:", "db:300.1.1.1", ":1.2.3.4", "a b:1.2.3.4"])("readExtraHost refuses %j", (text) => {
		expect(() => readExtraHost(text)).toThrow(expect.objectContaining({ code: "ERR_RUN_ADD_HOST" }));
	});
});

describe("setupSteps", () => {
	const system: ContainerSystem = { rootDisk: "root", fstype: "squashfs", hostname: "box" };
	const all = (options: Partial<ContainerSystem>) => setupSteps({ ...system, ...options });
	const last = (options: Partial<ContainerSystem>) => all(options).at(-1);

	test("masks and protects what Docker does, unless the container is privileged", () => {
		const steps = all({});
		expect(steps).toContainEqual(["mask", "/proc/kcore"]);
		expect(steps).toContainEqual(["readonly", "/proc/sys"]);
		expect(steps).toContainEqual(["mount", "sysfs\tsysfs\t/sys\tnosuid,nodev,noexec,ro"]);
		const free = all({ privileged: true });
		expect(free.filter(([name]) => name === "mask" || name === "readonly")).toEqual([]);
		expect(free).toContainEqual(["mount?", "cgroup2\tcgroup\t/sys/fs/cgroup\tnosuid,nodev,noexec"]);
	});
	test("takes what is protected from the steps last", () => {
		const names = all({ sysctls: { "a.b": "1" }, tmpfs: [{ target: "/run" }] }).map(([name]) => name);
		expect(names.lastIndexOf("sysctl")).toBeLessThan(names.indexOf("readonly"));
		expect(last({ readOnlyRoot: true, workdir: "/w", mounts: [["mount", "x\tx\t/v\t"]] })).toEqual([
			"mount",
			"\t\t/\tremount,bind,ro",
		]);
	});
	test("limits by a control group, which only limits make a must", () => {
		expect(all({})).toContainEqual(["cgroup?", "container"]);
		const limits = { "pids.max": "100", "cpu.max": "50000 100000" };
		expect(all({ cgroupLimits: limits })).toContainEqual(["cgroup", "container\tpids.max=100\tcpu.max=50000 100000"]);
	});
	test("knows sizes, hosts, name servers and parameters", () => {
		const network = { dns: ["10.0.2.3"], dnsSearch: ["a", "b"], dnsOptions: ["ndots:2"], address: "10.0.2.15/24" };
		const extraHosts = [{ name: "db", address: "10.0.0.7" }];
		const steps = all({
			shmSizeBytes: 4096,
			extraHosts,
			networks: [network],
			sysctls: { "net.a": "1", "net/b.c": "2" },
		});
		const values = steps.map((step) => step.join("\t"));
		expect(values.find((value) => value.includes("/dev/shm"))).toContain("size=4096");
		expect(values.find((value) => value.includes("/etc/hosts"))).toMatch(/10\.0\.0\.7\tdb\n10\.0\.2\.15\tbox\n$/);
		expect(values.find((value) => value.includes("/etc/resolv.conf"))).toMatch(
			/\tnameserver 10\.0\.2\.3\nsearch a b\noptions ndots:2\n$/,
		);
		expect(steps).toContainEqual(["sysctl", "net/a\t1"]);
		expect(steps).toContainEqual(["sysctl", "net/b.c\t2"]);
	});
	test("puts the writable layer on a disk that the agent keeps mounted", () => {
		expect(machineSteps({})).toEqual([]);
		expect(all({})).toContainEqual(["mount", "tmpfs\ttmpfs\t/run/writable\tmode=755"]);
		expect(machineSteps({ writableDisk: "w" })[0]).toEqual(["mount", "ext4\tid:w\t/run/writable\tdiscard"]);
		const steps = all({ writableDisk: "w" });
		expect(steps.filter(([, value]) => /\t\/run\/writable\t|^\/run\/writable/.test(value))).toEqual([]);
	});
	test("mounts what it is told to, and makes the working directory", () => {
		const steps = all({ tmpfs: [{ target: "/run", options: "size=1m" }], workdir: "/w" });
		expect(steps).toContainEqual(["mount", "tmpfs\ttmpfs\t/run\tnoexec,nosuid,nodev,size=1m"]);
		expect(steps).toContainEqual(["directory", "/w\t"]);
	});
});
