/*
 * What a container runs, from image and command line, compared with what Docker does.
 */
import { describe, expect, test } from "vitest";
import { mergeEnv, processSpec, readEnvFile, readVariable } from "../../src/container/process-spec.ts";
import { setupSteps } from "../../src/container/setup-steps.ts";

const image = {
	env: ["PATH=/bin", "LANG=C"],
	entrypoint: ["/entry"],
	cmd: ["-a", "-b"],
	workingDir: "/work",
	user: "app",
};
const options = { command: [], env: [], tty: false, hostname: "box" };

describe("processSpec", () => {
	test("takes the image's word for everything that the user leaves open", () => {
		expect(processSpec(image, options)).toEqual({
			args: ["/entry", "-a", "-b"],
			env: ["PATH=/bin", "HOSTNAME=box", "LANG=C"],
			cwd: "/work",
			user: "app",
		});
	});
	test("replaces the command but keeps the entrypoint", () => {
		expect(processSpec(image, { ...options, command: ["x"] }).args).toEqual(["/entry", "x"]);
	});
	test("drops the image's command with an entrypoint of the user's own", () => {
		expect(processSpec(image, { ...options, entrypoint: "sh" }).args).toEqual(["sh"]);
		expect(processSpec(image, { ...options, entrypoint: "sh", command: ["-c", "y"] }).args).toEqual(["sh", "-c", "y"]);
		expect(processSpec(image, { ...options, entrypoint: "", command: ["y"] }).args).toEqual(["y"]);
	});
	test("refuses to run nothing", () => {
		expect(() => processSpec(image, { ...options, entrypoint: "" })).toThrow(/no command specified/);
		expect(() => processSpec({ ...image, entrypoint: [], cmd: [] }, options)).toThrow(/no command specified/);
	});
	test("lets the user's variables, directory and user win", () => {
		const spec = processSpec(image, { ...options, env: ["LANG=de", "B=2"], workdir: "/w", user: "0:0", tty: true });
		expect(spec.env).toEqual(["PATH=/bin", "HOSTNAME=box", "TERM=xterm", "LANG=de", "B=2"]);
		expect([spec.cwd, spec.user]).toEqual(["/w", "0:0"]);
	});
	test("refuses a relative working directory and defaults to the root", () => {
		expect(() => processSpec(image, { ...options, workdir: "w" })).toThrow(/not an absolute path/);
		expect(processSpec({ ...image, workingDir: "" }, options).cwd).toBe("/");
	});
});

describe("environment", () => {
	test("mergeEnv keeps the place of the first and the value of the last", () => {
		expect(mergeEnv(["A=1", "B=2"], ["A=3"])).toEqual(["A=3", "B=2"]);
	});
	test("readVariable takes the host's value for a bare name", () => {
		expect(readVariable("A", { A: "x=y" })).toEqual(["A=x=y"]);
		expect(readVariable("A=", {})).toEqual(["A="]);
		expect(readVariable("A", {})).toEqual([]);
		expect(() => readVariable("=x", {})).toThrow(/no name/);
	});
	test("readEnvFile skips comments and empty lines, keeps quotes and blanks in values", () => {
		expect(readEnvFile('# c\n\nA="1 2"\r\n  B=x # y\nC\n', { C: "host" })).toEqual(['A="1 2"', "B=x # y", "C=host"]);
		expect(() => readEnvFile("A B=1", {})).toThrow(/has a blank/);
	});
});

describe("setupSteps", () => {
	const system = { rootDisk: "root", fstype: "squashfs", hostname: "box" };
	test("enters the root before anything is written in it", () => {
		const names = setupSteps(system).map(([name]) => name);
		expect(names.indexOf("switch")).toBeLessThan(names.indexOf("file"));
		expect(names).not.toContain("address");
	});
	test("configures the interface before the route", () => {
		const network = { address: "10.0.2.15/24", gateway: "10.0.2.2", dns: ["10.0.2.3"], mtu: 1500 };
		const steps = setupSteps({ ...system, networks: [network] });
		const at = steps.findIndex(([name]) => name === "mtu?");
		expect(steps.slice(at, at + 4)).toEqual([
			["mtu?", "eth0\t1500"],
			["address", "eth0\t10.0.2.15/24"],
			["up", "eth0"],
			["gateway", "10.0.2.2"],
		]);
		expect(steps).toContainEqual(["file", "/etc/resolv.conf\t644\tnameserver 10.0.2.3\n"]);
		expect(steps.some(([, value]) => value.includes("10.0.2.15\tbox"))).toBe(true);
	});
});
