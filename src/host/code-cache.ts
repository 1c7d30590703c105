/*
 * V8's code of a program, so that Node need not compile it at each start. Each bundle has one for each profile: a group of
 * commands that run the same parts of the program, and only the code of these parts is in it.
 *
 *     dist/PROFILE-BUNDLE.cache                 the build's (scripts/code-cache.mjs); a package has none
 *     cacheDirectory()/code/KEY-PROFILE.cache   this user's, written after the first run of a command that did not fail
 *
 *     | the bundle's name, 64 digits that the bundle ends with | CRC-32 of the code | code |
 *
 * A build need not have KVM, so the user's has functions that the build's has not. V8 refuses code of another version of V8
 * or of other flags, and then compiles; but it trusts what the code consists of, and aborts at a damaged byte. So that is checked here.
 */
import {
	closeSync,
	constants,
	existsSync,
	fstatSync,
	fsyncSync,
	mkdirSync,
	openSync,
	readdirSync,
	readFileSync,
	renameSync,
	rmSync,
	statSync,
	unlinkSync,
	writeSync,
} from "node:fs";
import { join } from "node:path";
import { Script } from "node:vm";
import * as zlib from "node:zlib";
import { cacheDirectory, cachePath } from "./directories.ts";

/** Length of a bundle's name. */
const NAME_BYTES = 64;
/** Of the name and the checksum. */
const HEADER_BYTES = NAME_BYTES + 4;
/** A process that runs so long has done what it does at its start. */
const LONG_RUN_MS = 60_000;
/** So many files are kept, those of this bundle and of those before it. */
const MOST = 48;
const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY } = constants;

/**
 * Runs a bundle with the code that is there for `profile`. Writes the user's code later, when there is none.
 *
 * @param bundle its name, without .cjs
 * @returns what its one expression is
 */
export function runBundle(directory: string, bundle: string, profile: string): unknown {
	const filename = join(directory, `${bundle}.cjs`);
	/* The bundle is ASCII. */
	const source = readFileSync(filename, "latin1");
	const name = source.slice(-NAME_BYTES);
	const path = userCache(name, profile);
	const learned = path === undefined ? undefined : readCache(path, name, isOwn);
	const cachedData = learned ?? readCache(join(directory, `${profile}-${bundle}.cache`), name);
	const script = new Script(source, { filename, ...(cachedData === undefined ? {} : { cachedData }) });
	if (path !== undefined && (learned === undefined || script.cachedDataRejected === true)) {
		saveLater(() => writeCache(path, name, script));
	}
	return script.runInThisContext();
}

/** Undefined with flags of V8 that the user has chosen: its code would take the place of that without them. Node 20.11 has no CRC. */
function userCache(name: string, profile: string): string | undefined {
	if (process.execArgv.length > 0 || process.env.NODE_OPTIONS || zlib.crc32 === undefined) return undefined;
	return join(cachePath(), "code", `${name.slice(0, 16)}-${process.version}-${process.arch}-${profile}.cache`);
}

/** @param accepts looks at the open file */
function readCache(path: string, name: string, accepts = (_fd: number) => true): Buffer | undefined {
	try {
		const fd = openSync(path, O_RDONLY | O_NOFOLLOW);
		try {
			if (!accepts(fd)) return undefined;
			const cache = readFileSync(fd);
			if (cache.toString("latin1", 0, NAME_BYTES) !== name) return undefined;
			const code = cache.subarray(HEADER_BYTES);
			return cache.readUInt32LE(NAME_BYTES) === zlib.crc32(code) ? code : undefined;
		} finally {
			closeSync(fd);
		}
	} catch {
		return undefined;
	}
}

/** Code of another user, or that another one can change, is not run. */
function isOwn(fd: number): boolean {
	const { uid, mode } = fstatSync(fd);
	return uid === process.geteuid!() && (mode & 0o022) === 0;
}

/** Calls `save` once: at the end of a command that did not fail, or after a while. V8 drops code that was not used for long. */
function saveLater(save: () => void): void {
	const atEnd = (status: number) => {
		if (status === 0) save();
	};
	const timer = setTimeout(() => {
		process.off("exit", atEnd);
		save();
	}, LONG_RUN_MS);
	timer.unref();
	process.once("exit", atEnd);
}

/** Never throws: nobody needs it. */
function writeCache(path: string, name: string, script: Script): void {
	const partial = `${path}.${process.pid}`;
	try {
		const directory = join(cacheDirectory(), "code");
		if (!existsSync(directory)) mkdirSync(directory, { mode: 0o700 });
		const fd = openSync(partial, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
		try {
			writeSync(fd, withHeader(name, script.createCachedData()));
			fsyncSync(fd);
		} finally {
			closeSync(fd);
		}
		renameSync(partial, path);
		removeOldest(directory);
	} catch {
		if (existsSync(partial)) unlinkSync(partial);
	}
}

function withHeader(name: string, code: Buffer): Buffer {
	const header = Buffer.alloc(HEADER_BYTES, name, "latin1");
	header.writeUInt32LE(zlib.crc32(code), NAME_BYTES);
	return Buffer.concat([header, code]);
}

function removeOldest(directory: string): void {
	const files = readdirSync(directory).map((name) => join(directory, name));
	const writtenMs = new Map(files.map((file) => [file, statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0]));
	const oldest = files.sort((a, b) => writtenMs.get(b)! - writtenMs.get(a)!).slice(MOST);
	for (const file of oldest) rmSync(file, { force: true });
}
