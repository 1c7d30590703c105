/*
 * cp, export, top and stats of containers, with the real agent and its busybox and no VM: the container's root is this
 * host's, so its side of each copy is a directory of the test.
 */
import {
	chmodSync,
	copyFileSync,
	existsSync,
	linkSync,
	lstatSync,
	mkdirSync,
	mkdtempSync,
	openSync,
	readdirSync,
	readFileSync,
	readlinkSync,
	rmSync,
	statSync,
	symlinkSync,
	utimesSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { Readable } from "node:stream";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { processesOf, rowOf } from "../../../src/cli/container/stats.ts";
import { busyboxPath } from "../../../src/container/busybox.ts";
import { tarEnd, tarHeader } from "../../../src/container/image/tar/write.ts";
import { type ContainerAgent, withContainerAgent } from "../../../src/container/life/agent-access.ts";
import { removeContainer, stopContainer } from "../../../src/container/life/commands.ts";
import { copyIn, copyOut, openGuestTar, writeGuestTar } from "../../../src/container/life/copy.ts";
import type { StoredContainer } from "../../../src/container/life/store.ts";
import { unpackTar } from "../../../src/container/life/unpack.ts";
import { buildAgent } from "../../agent/native-agent.ts";
import { endsWhenRefused, FakeMachine, stopAgents } from "../fake-machine.ts";
import { start } from "./started-container.ts";

const directory = mkdtempSync(`${tmpdir()}/tsvmm-copy-`);
const tools = `${directory}/tools`;
const guest = `${directory}/guest`;
const host = `${directory}/host`;
const plain = { archive: false, follow: false };
let container: StoredContainer;

beforeAll(async () => {
	buildAgent();
	mkdirSync(tools);
	copyFileSync(await busyboxPath(), `${tools}/busybox`);
	({ container } = await start(["sleep", "1000"], { tools }));
});
beforeEach(() => {
	for (const path of [guest, host]) {
		rmSync(path, { recursive: true, force: true });
		mkdirSync(path);
	}
	mkdirSync(`${guest}/d/e`, { recursive: true });
	writeFileSync(`${guest}/d/f`, "content");
	writeFileSync(`${guest}/d/e/ünïcode name`, "inner");
	chmodSync(`${guest}/d/f`, 0o640);
	utimesSync(`${guest}/d/f`, 1_000_000_000, 1_000_000_000);
	symlinkSync("f", `${guest}/d/link`);
	linkSync(`${guest}/d/f`, `${guest}/d/hard`);
});
afterAll(async () => {
	await removeContainer(container, { force: true });
	await stopAgents();
	rmSync(directory, { recursive: true, force: true });
});

const within = <T>(work: (agent: ContainerAgent) => Promise<T>) => withContainerAgent(container, work);
const out = (from: string, to: string, options = plain) => within((agent) => copyOut(agent, from, to, options));
const into = (from: string, to: string, options = plain) => within((agent) => copyIn(agent, from, to, options));

describe("copyOut", () => {
	test("makes the directory, or puts it or its content into one that is there", async () => {
		expect(await out(`${guest}/d`, `${host}/new`)).toBe("content".length + "inner".length);
		await out(`${guest}/d`, host);
		mkdirSync(`${host}/filled`);
		await out(`${guest}/d/.`, `${host}/filled`);
		for (const copy of ["new", "d", "filled"].map((name) => `${host}/${name}`)) {
			expect(readdirSync(copy).sort()).toEqual(["e", "f", "hard", "link"]);
			expect(readFileSync(`${copy}/e/ünïcode name`, "utf8")).toBe("inner");
			expect(readlinkSync(`${copy}/link`)).toBe("f");
			const { mode, mtimeMs, ino } = statSync(`${copy}/f`);
			expect([mode & 0o7777, mtimeMs]).toEqual([0o640, 1_000_000_000_000]);
			expect(statSync(`${copy}/hard`).ino).toBe(ino);
		}
	});
	test("renames a file, replaces one, puts one into a directory, and follows links when it is asked to", async () => {
		await out(`${guest}/d/f`, `${host}/renamed`);
		writeFileSync(`${host}/there`, "old");
		await out(`${guest}/d/f`, `${host}/there`);
		await out(`${guest}/d/link`, `${host}/as-link`);
		await out(`${guest}/d/link`, host, { archive: true, follow: true });
		for (const name of ["renamed", "there", "f"]) expect(readFileSync(`${host}/${name}`, "utf8")).toBe("content");
		expect(lstatSync(`${host}/as-link`).isSymbolicLink()).toBe(true);
	});
	test.each([
		["d", "file", /a directory cannot be copied to a file/],
		["d/f", "missing/", /there is no such directory/],
		["d", "missing/x", /there is no directory/],
		["nowhere", "x", /there is no such file in the container/],
		["d/f/", "x", /it is no directory|there is no such file/],
	])("refuses %s to %s", async (from, to, message) => {
		writeFileSync(`${host}/file`, "old");
		await expect(out(`${guest}/${from}`, `${host}/${to}`)).rejects.toMatchObject({
			code: "ERR_CP",
			message: expect.stringMatching(message),
		});
		expect(readdirSync(host)).toEqual(["file"]);
	});
});

describe("copyIn", () => {
	test("brings trees and files to where Docker does, as root's", async () => {
		mkdirSync(`${host}/src/sub`, { recursive: true });
		writeFileSync(`${host}/src/sub/a`, Buffer.alloc(300_000, "x"));
		symlinkSync("sub/a", `${host}/src/link`);
		await into(`${host}/src`, `${guest}/made`);
		await into(`${host}/src`, `${guest}/d`);
		await into(`${host}/src/.`, `${guest}/d/e`);
		for (const copy of ["made", "d/src", "d/e"].map((name) => `${guest}/${name}`)) {
			expect(statSync(`${copy}/sub/a`).size).toBe(300_000);
			expect(readlinkSync(`${copy}/link`)).toBe("sub/a");
		}
		await into(`${host}/src/sub/a`, `${guest}/d/f`);
		await into(`${host}/src/link`, `${guest}/linked`, { archive: true, follow: true });
		for (const name of ["d/f", "linked"]) expect(statSync(`${guest}/${name}`).size).toBe(300_000);
	});
	test.each([
		["src", "d/f", /no directory/],
		["src/a", "missing/", /no such directory/],
		["src/a", "missing/x", /there is no directory/],
		["nowhere", "d", /no such file/],
	])("refuses %s to %s", async (from, to, message) => {
		mkdirSync(`${host}/src`);
		writeFileSync(`${host}/src/a`, "a");
		await expect(into(`${host}/${from}`, `${guest}/${to}`)).rejects.toMatchObject({
			code: "ERR_CP",
			message: expect.stringMatching(message),
		});
	});
	test("a tar goes through as it is, both ways, and a damaged one is told", async () => {
		const tar = await within(async (agent) => {
			const opened = await openGuestTar(agent, `${guest}/d`, false);
			return Buffer.concat(await opened.session.stdout.toArray());
		});
		await within((agent) => writeGuestTar(agent, `${guest}/d/e`, Readable.from([tar], { objectMode: false })));
		expect(readFileSync(`${guest}/d/e/d/f`, "utf8")).toBe("content");
		const damaged = () => Readable.from([Buffer.alloc(2000, "x")], { objectMode: false });
		await expect(within((agent) => writeGuestTar(agent, guest, damaged()))).rejects.toMatchObject({ code: "ERR_CP" });
	});
});

describe("unpackTar of a hostile archive", () => {
	const member = (path: string, type: "file" | "directory" | "symlink" | "link" | "char", target = "") =>
		tarHeader({
			path,
			type,
			target,
			mode: 0o6755,
			uid: 0,
			gid: 0,
			mtime: 0,
			size: 0,
			major: 1,
			minor: 3,
			xattrs: new Map(),
		});
	const unpack = (...members: Buffer[]) => {
		const path = `${directory}/hostile.tar`;
		writeFileSync(path, Buffer.concat([...members, tarEnd()]));
		const skipped: string[] = [];
		const plan = { directory: host, base: "d", name: "d", archive: false };
		unpackTar(
			{ fd: openSync(path, "r"), start: 0, size: statSync(path).size },
			{ ...plan, onSkipped: (name) => skipped.push(name) },
		);
		return skipped;
	};
	test.each([
		["a name with ..", [member("d/../../evil", "file")]],
		["another first name", [member("evil", "file")]],
		[
			"a symbolic link on the way",
			[member("d", "directory"), member("d/out", "symlink", guest), member("d/out/evil", "file")],
		],
		["a hard link out of it", [member("d", "directory"), member("d/evil", "link", "/etc/passwd")]],
		["a hard link by a symbolic one", [member("d/out", "symlink", "/etc/passwd"), member("d/evil", "link", "d/out")]],
		["a directory that becomes a link", [member("d/x", "directory"), member("d/x", "symlink", guest)]],
	])("refuses %s", (_, members) => {
		expect(() => unpack(...members)).toThrow(expect.objectContaining({ code: expect.stringMatching(/^ERR_/) }));
		expect(existsSync(`${directory}/evil`) || existsSync(`${guest}/evil`) || existsSync(`${host}/d/evil`)).toBe(false);
	});
	test("replaces a link by a file, passes devices over, and keeps no setuid bit", () => {
		mkdirSync(`${host}/d`);
		symlinkSync(`${guest}/d/f`, `${host}/d/file`);
		expect(unpack(member("d/file", "file"), member("d/null", "char"))).toEqual(["d/null"]);
		expect(readFileSync(`${guest}/d/f`, "utf8")).toBe("content");
		expect(lstatSync(`${host}/d/file`).mode & 0o7777).toBe(0o755);
	});
});

test("top lists the processes, without its own", async () => {
	const [heading, ...lines] = (await processesOf(container, ["-eo", "pid,args"])).trimEnd().split("\n");
	expect(heading).toMatch(/^PID +COMMAND$/);
	expect(lines.length).toBeGreaterThan(0);
	expect(lines.join("\n")).not.toMatch(/ps -o pid,args/);
	await expect(processesOf(container, ["-o", "nonsense"])).rejects.toMatchObject({ code: "ERR_TOP" });
});

test("stats has Docker's fields, from two samples", () => {
	const usage = {
		pids: 3,
		memoryBytes: 16 << 20,
		cpuUs: 500_000,
		readBytes: 2_000_000,
		writtenBytes: 0,
		receivedBytes: 1500,
		sentBytes: 500,
	};
	const before = { usage: { ...usage, cpuUs: 0 }, timeMs: 1000 };
	expect(rowOf(container, { usage, timeMs: 2000 }, before, true)).toMatchObject({
		ID: container.shortId,
		CPUPerc: "50.00%",
		MemUsage: "16MiB / 64MiB",
		MemPerc: "25.00%",
		NetIO: "1.5kB / 500B",
		BlockIO: "2MB / 0B",
		PIDs: "3",
	});
	expect(rowOf(container, undefined, undefined, true)).toMatchObject({ CPUPerc: "--", PIDs: "--", GivenBack: "--" });
	const memory = { freeBytes: 1 << 20, givenBackBytes: 3 << 20 };
	expect(rowOf(container, { usage, memory, timeMs: 2000 }, before, true)).toMatchObject({
		GuestFree: "1MiB",
		GuestAvailable: "--",
		GivenBack: "3MiB",
	});
});

test("a container that does not run is reached by a machine that ends afterwards", async () => {
	const { container: ended } = await start(["sleep", "1000"], { tools });
	await stopContainer(ended, { timeoutMs: 0 });
	const machine = endsWhenRefused(new FakeMachine(tools));
	const boot = async () => ({
		guest: machine,
		machine: { pause: async () => undefined, resume: () => undefined },
		steps: [],
	});
	const bytes = await withContainerAgent(ended, (agent) => copyOut(agent, `${guest}/d/f`, host, plain), { boot });
	expect(bytes).toBe("content".length);
	expect((await machine.ended).reason).toBe("power-off");
	expect(ended.state().status).toBe("exited");
	await removeContainer(ended);
});
