/*
 * cp and export: files of a container from and to the host, by a tar that the agent's busybox writes or reads in the
 * container's root. Where things come to lie is by Docker's rules.
 */
import { lstatSync, realpathSync, type Stats, statSync } from "node:fs";
import { basename, dirname, posix, resolve } from "node:path";
import { Readable, type Writable } from "node:stream";
import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import type { Session } from "../../agent/session.ts";
import { explain, HostError } from "../../base/errors.ts";
import { stateDirectory } from "../../host/directories.ts";
import { wholeFile } from "../image/layer-file.ts";
import { scratchFile, writeAll } from "../image/staging.ts";
import { bytePath } from "../image/tar/entry.ts";
import type { ContainerAgent } from "./agent-access.ts";
import { packTar } from "./pack.ts";
import { unpackTar } from "./unpack.ts";

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;

export interface CopyOptions {
	/** Owners are kept. */
	archive: boolean;
	/** The source may be a symbolic link, which is followed. */
	follow: boolean;
	onSkipped?: (path: string, type: string) => void;
}

/** "/a/b" with how it was written at its end. */
function guestPath(given: string): { path: string; contents: boolean; directory: boolean } {
	const path = posix.resolve("/", given);
	const contents = /(^|\/)\.$/.test(given) || path === "/";
	return { path, contents, directory: contents || given.endsWith("/") };
}

/** A tar of a file or directory of the container. @throws HostError ERR_CP when it is not there */
export async function openGuestTar(
	agent: ContainerAgent,
	given: string,
	follow: boolean,
): Promise<{ session: Session; base: string; contents: boolean; isDirectory: boolean }> {
	const { path: wanted, contents, directory } = guestPath(given);
	const path = follow || directory ? ((await output(agent, ["readlink", "-f", wanted])) ?? wanted) : wanted;
	const mode = await modeOf(agent, path);
	if (mode === undefined) throw failed(given, "there is no such file in the container");
	const isDirectory = (mode & S_IFMT) === S_IFDIR;
	if (directory && !isDirectory) throw failed(given, "it is no directory");
	/* As in Docker: what ends in "/." is named as seen from inside. */
	const base = contents ? "." : posix.basename(path);
	const session = await agent.busybox([
		...["tar", "-c", "-f", "-", "-C", contents ? path : posix.dirname(path), "--", base],
	]);
	return { session, base, contents, isDirectory };
}

/** @returns the bytes of all files. @throws HostError ERR_CP */
export async function copyOut(
	agent: ContainerAgent,
	from: string,
	to: string,
	{ archive, follow, onSkipped = () => undefined }: CopyOptions,
): Promise<number> {
	const { session, base, contents, isDirectory } = await openGuestTar(agent, from, follow);
	const scratch = await scratchFile(stateDirectory());
	try {
		const place = hostPlace(to, { isDirectory, contents, base });
		const complaint = text(session.stderr);
		for await (const chunk of session.stdout) await writeAll(scratch, chunk as Buffer);
		await succeeded(session, complaint, from);
		return unpackTar(await wholeFile(scratch), { ...place, base: bytePath(base), archive, onSkipped });
	} finally {
		session.close();
		await scratch.close();
	}
}

/** Where the source comes to lie on the host. */
function hostPlace(
	to: string,
	{ isDirectory, contents, base }: { isDirectory: boolean; contents: boolean; base: string },
): { directory: string; name?: string } {
	const path = resolve(to);
	const found = statOf(path);
	if (found?.isDirectory() === true) {
		return isDirectory && contents ? { directory: path } : { directory: path, name: base };
	}
	if (found !== undefined && isDirectory) throw failed(to, "a directory cannot be copied to a file");
	if (found === undefined && !isDirectory && to.endsWith("/")) throw failed(to, "there is no such directory");
	if (statOf(dirname(path))?.isDirectory() !== true) throw failed(to, `there is no directory ${dirname(path)}`);
	const real = found === undefined ? path : realpathSync(path);
	return { directory: dirname(real), name: basename(real) };
}

/** @returns the bytes of all files. @throws HostError ERR_CP */
export async function copyIn(
	agent: ContainerAgent,
	from: string,
	to: string,
	{ archive, follow }: CopyOptions,
): Promise<number> {
	const source = resolve(from);
	const contents = /(^|\/)\.$/.test(from);
	const followed = follow || contents || from.endsWith("/");
	const found = followed ? statOf(source) : lstatSync(source, { throwIfNoEntry: false });
	if (found === undefined) throw failed(from, "there is no such file");
	if (from.endsWith("/") && !found.isDirectory()) throw failed(from, "it is no directory");
	const place = await guestPlace(agent, to, { isDirectory: found.isDirectory(), contents, base: basename(source) });
	let bytes = 0;
	const plan = { path: source, name: place.name, archive, follow: followed };
	const onBytes = (count: number) => {
		bytes += count;
	};
	await writeGuestTar(agent, place.directory, Readable.from(packTar({ ...plan, onBytes }), { objectMode: false }));
	return bytes;
}

async function guestPlace(
	agent: ContainerAgent,
	to: string,
	{ isDirectory, contents, base }: { isDirectory: boolean; contents: boolean; base: string },
): Promise<{ directory: string; name: string }> {
	const { path: wanted, directory } = guestPath(to);
	const path = (await output(agent, ["readlink", "-f", wanted])) ?? wanted;
	const mode = await modeOf(agent, path);
	if (mode !== undefined && (mode & S_IFMT) === S_IFDIR) {
		return { directory: path, name: isDirectory && contents ? "." : base };
	}
	if (mode !== undefined && (isDirectory || directory)) throw failed(to, "it is no directory");
	if (mode === undefined && !isDirectory && directory) throw failed(to, "there is no such directory in the container");
	const parent = posix.dirname(path);
	if ((await modeOf(agent, parent)) === undefined) throw failed(to, `there is no directory ${parent} in the container`);
	return { directory: parent, name: posix.basename(path) };
}

/** Unpacks a tar in a directory of the container. @throws HostError ERR_CP */
export async function writeGuestTar(agent: ContainerAgent, directory: string, tar: Readable): Promise<void> {
	const path = posix.resolve("/", directory);
	const session = await agent.busybox(["tar", "-x", "-p", "-f", "-", "-C", path], { stdin: true });
	session.stdout.resume();
	const complaint = text(session.stderr);
	const sent = pipeline(tar, session.stdin as Writable);
	const [read, written] = await Promise.allSettled([sent, succeeded(session, complaint, directory)]);
	if (read.status === "rejected") throw failed(directory, explain(read.reason));
	if (written.status === "rejected") throw written.reason;
}

/** @throws HostError ERR_CP with what the tool has said */
export async function succeeded(session: Session, complaint: Promise<string>, what: string): Promise<void> {
	const exit = await session.exit;
	if ("code" in exit && exit.code === 0) return;
	const lines = (await complaint).trim().split("\n").slice(-3).join("; ");
	throw failed(what, lines === "" ? "tar was killed in the container" : lines);
}

async function modeOf(agent: ContainerAgent, path: string): Promise<number | undefined> {
	const found = await output(agent, ["stat", "-c", "%f", path]);
	return found === undefined || !/^[0-9a-f]+$/.test(found) ? undefined : Number.parseInt(found, 16);
}

/** What a tool prints, without its newline; undefined when it fails. */
async function output(agent: ContainerAgent, args: readonly string[]): Promise<string | undefined> {
	const session = await agent.busybox(args);
	session.stderr.resume();
	const found = await text(session.stdout);
	const exit = await session.exit;
	return "code" in exit && exit.code === 0 && found !== "" ? found.replace(/\n$/, "") : undefined;
}

function statOf(path: string): Stats | undefined {
	return statSync(path, { throwIfNoEntry: false });
}

function failed(what: string, why: string): HostError {
	return new HostError("ERR_CP", `Cannot copy ${what}: ${why}`);
}
