/*
 * `tsvmm run` with invalid options and images. All errors are found before a machine or lab is started. The image is as
 * small as possible. The kernel is a missing file, which is the last check.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { dockerArchive, packFiles, tar } from "../container/image/archives.ts";
import { bundle, program, type Setting, tsvmm } from "./tsvmm.ts";

/* Each start of tsvmm takes its time on a busy machine. */
vi.setConfig({ testTimeout: 60_000 });

const directory = mkdtempSync(join(tmpdir(), "tsvmm-run-"));
const TSVMM_CACHE = join(directory, "cache");
afterAll(() => rmSync(directory, { recursive: true }));

beforeAll(async () => {
	bundle();
	const layer = await tar([{ name: "bin/" }, { name: "bin/sh", data: "x", mode: 0o755 }]);
	for (const [name, config] of [
		["app:1", { Cmd: ["sh"] }],
		["mute:1", {}],
	] as const) {
		const path = join(directory, "image.tar");
		writeFileSync(path, await packFiles(dockerArchive([layer], [name], config)));
		execFileSync(process.execPath, ["--", program, "image", "import", path], { env: { ...process.env, TSVMM_CACHE } });
	}
}, 60_000);

const run = (args: readonly string[], setting: Setting = {}) =>
	tsvmm(["run", ...(args.includes("--net") ? [] : ["--net", "none"]), ...args], { ...setting, env: { TSVMM_CACHE } });

const PORT_HINT = "Write [ADDRESS:]HOST:GUEST[/udp], as in 8080:80";
const NAME_HINT = "Write NAME[:TAG] in lower case, as in busybox, user/app:1.0 or registry.example/app@sha256:...";

describe.concurrent("tsvmm run", () => {
	test.each<[what: string, args: string[], code: string, message: string, hint?: string]>([
		["an unknown image", ["--pull", "never", "nope"], "ERR_IMAGE_NOT_FOUND", "Cannot find image nope:latest"],
		["an unknown tag", ["--pull", "never", "app:2"], "ERR_IMAGE_NOT_FOUND", "Cannot find image app:2", "Try app:1"],
		[
			"an image of a registry that is not there",
			["-q", "127.0.0.1:1/nope"],
			"ERR_REGISTRY_CONNECT",
			"Cannot pull 127.0.0.1:1/nope:latest: 127.0.0.1:1: connection refused",
		],
		[
			"an image that is to be pulled anew and cannot be",
			["-q", "--pull", "always", "127.0.0.1:1/nope"],
			"ERR_REGISTRY_CONNECT",
			"Cannot pull 127.0.0.1:1/nope:latest: 127.0.0.1:1: connection refused",
		],
		[
			"a pull policy that is none",
			["--pull", "often", "app:1"],
			"ERR_RUN_PULL",
			'Cannot pull "often": missing, always and never are possible',
		],
		["an empty name", [""], "ERR_IMAGE_REFERENCE", 'Cannot read image name "": it has no name', NAME_HINT],
		[
			"a name with blanks",
			["my app"],
			"ERR_IMAGE_REFERENCE",
			'Cannot read image name "my app": "my app" is not a repository name',
			NAME_HINT,
		],
		[
			"an image without a command",
			["mute:1"],
			"ERR_RUN_COMMAND",
			"Cannot run the image: no command specified",
			"Write one after the image, which names none: tsvmm run IMAGE COMMAND",
		],
		[
			"an entrypoint taken away",
			["--entrypoint", "", "app:1"],
			"ERR_RUN_COMMAND",
			"Cannot run the image: no command specified",
			"Write one after the image, which names none: tsvmm run IMAGE COMMAND",
		],
		[
			"a variable without a name",
			["-e", "=x", "app:1"],
			"ERR_RUN_ENV",
			'Cannot set environment variable "=x": it has no name',
		],
		["no variable at all", ["-e", "", "app:1"], "ERR_RUN_ENV", 'Cannot set environment variable "": it has no name'],
		[
			"a missing environment file",
			["--env-file", "no.env", "app:1"],
			"ERR_RUN_ENV",
			"Cannot read environment file no.env: no such file or directory",
		],
		[
			"a relative working directory",
			["-w", "home", "app:1"],
			"ERR_RUN_WORKDIR",
			'Cannot use working directory "home": it is not an absolute path',
		],
		[
			"a host name with a blank",
			["-h", "a b", "app:1"],
			"ERR_RUN_HOSTNAME",
			'Cannot use host name "a b": letters, digits, dots and dashes are wanted',
		],
		[
			"a terminal without a terminal",
			["-it", "app:1"],
			"ERR_RUN_TTY",
			"Cannot give the container a terminal: standard input is none",
			"Leave -t out when input comes from a pipe or file",
		],
		[
			"33 vCPUs",
			["--cpus", "33", "app:1"],
			"ERR_CONFIG_CPUS",
			"Cannot give the machine 33 vCPUs: 1 to 32 are possible",
		],
		[
			"1 MiB",
			["-m", "1M", "app:1"],
			"ERR_CONFIG_MEMORY",
			"Cannot give the machine 1 MiB of memory: 64 MiB to 1024 GiB are possible",
			"Give --memory a number with a unit, as in --memory 512M",
		],
		["a port beyond 65535", ["-p", "65536:80", "app:1"], "ERR_OPTION_PORT", 'Cannot read port "65536:80"', PORT_HINT],
		["a port of an address alone", ["-p", "1.2.3.4:80", "app:1"], "ERR_OPTION_PORT", 'Cannot read port "1.2.3.4:80"'],
		[
			"a file for its ID that is a directory",
			["--cidfile", "/", "app:1"],
			"ERR_RUN_CIDFILE",
			"Cannot write the container's ID to /: it is a directory",
			"Name another file",
		],
		[
			"a published port without a network",
			["-p", "8080:80", "app:1"],
			"ERR_RUN_PUBLISH",
			'Cannot publish ports on network "none"',
		],
		[
			"none beside another network",
			["--net", "none", "--net", "user", "app:1"],
			"ERR_RUN_NETWORKS",
			"Cannot be on networks none and user: none is no network",
			"Leave one of them out",
		],
		[
			"a network twice",
			["--net", "tap=x", "--net", "tap=x,ip=10.0.0.2", "app:1"],
			"ERR_RUN_NETWORKS",
			"Cannot be on networks tap=x and tap=x,ip=10.0.0.2: tap x is there twice",
			"Leave one of them out",
		],
		[
			"an address without a tap",
			["--ip", "10.0.0.2", "app:1"],
			"ERR_RUN_ADDRESS",
			"Cannot choose the guest's address: that takes --net tap=NAME, bridge=NAME or --net NAME",
		],
		[
			"an address of 33 bits",
			["--net", "tap=x", "--ip", "10.0.0.2/33", "app:1"],
			"ERR_RUN_ADDRESS",
			'Cannot read IPv4 address "10.0.0.2/33"',
		],
		[
			"a name server by name",
			["--net", "tap=x", "--dns", "dns.example", "app:1"],
			"ERR_RUN_ADDRESS",
			'Cannot read IPv4 address "dns.example"',
		],
		[
			"a console on stdio",
			["--console", "stdio", "app:1"],
			"ERR_OPTION_CONSOLE",
			'Cannot read console "stdio"',
			"Write file=PATH",
		],
		[
			"an unknown kernel",
			["--kernel", "nope", "app:1"],
			"ERR_RUN_KERNEL",
			'Cannot use kernel "nope": there is none of that name',
			"See tsvmm kernel ls for their names; write a file with a slash, as in ./vmlinux",
		],
		[
			"a missing kernel file",
			["--kernel", "./nope", "app:1"],
			"ERR_KERNEL_OPEN",
			"Cannot open kernel ./nope: no such file or directory",
			"Check the path of the kernel",
		],
	])("run refuses %s", async (_what, args, code, message, hint) => {
		const outcome = await run(args);
		const [first, second] = outcome.stderr.split("\n");
		expect(first).toBe(`tsvmm: error: ${message} [${code}]`);
		if (hint !== undefined) expect(second).toBe(`  hint: ${hint}`);
		expect(outcome).toMatchObject({ status: 125, stdout: "", left: [] });
	});

	test("run refuses a directory as environment file and as kernel", async () => {
		const prepare = (where: string) => mkdirSync(join(where, "d"));
		expect(await run(["--env-file", "d", "app:1"], { prepare })).toMatchObject({
			status: 125,
			stderr: "tsvmm: error: Cannot read environment file d: is a directory [ERR_RUN_ENV]\n",
		});
		expect(await run(["--kernel", "./d", "app:1"], { prepare })).toMatchObject({
			status: 125,
			stderr: "tsvmm: error: Cannot open kernel ./d: it is a directory [ERR_KERNEL_OPEN]\n",
		});
	});

	test("run refuses a blank in a variable of an environment file", async () => {
		const prepare = (where: string) => writeFileSync(join(where, "f"), "# fine\nA=1\nB C=2\n");
		expect(await run(["--env-file", "f", "app:1"], { prepare })).toMatchObject({
			status: 125,
			stderr: 'tsvmm: error: Cannot set environment variable "B C": it has a blank [ERR_RUN_ENV]\n',
		});
	});
});
