/*
 * Makes the template of a machine that had to boot, in a process of its own, so that the next one need not boot:
 *
 *     supervisor: its container runs -> prepareTemplate: room, no other one -> tsvmm template prepare SHAPE
 *     that process: lowest priority -> makeTemplate -> a template, or the reason why there is none (attempts.ts)
 *
 * Nobody waits for it, and it says nothing. It runs at the lowest priority, and it is the first process to go when RAM runs
 * out. A lab makes templates, too: its machines take the longest to boot, and its key has the emulated processor's name,
 * so templates of the lab and of the host never meet.
 */
import { spawn } from "node:child_process";
import { closeSync, openSync, statfsSync, statSync, writeFileSync } from "node:fs";
import { constants, freemem, setPriority } from "node:os";
import { errnoName, explain } from "../../base/errors.ts";
import { InterruptedError } from "../../base/signals.ts";
import { isLocked } from "../../host/file-lock.ts";
import { ownProgram } from "../../host/own-program.ts";
import { beginAttempt, failAttempt, forgetAttempt } from "./attempts.ts";
import { makeTemplate } from "./make.ts";
import { parseShape } from "./shape.ts";
import {
	isTemplate,
	listTemplates,
	mayPrepare,
	removeTemplate,
	type TemplateShape,
	templatePath,
	templatesDirectory,
} from "./store.ts";

/** Room that is left on the disk besides what the template takes at most. */
const SPARE_MIB = 256;
/** So many are kept: sizes that were tried once are not wanted for a month. */
const MOST = 8;

/**
 * Starts to make the template of a machine, unless there is no room for it, another one is being made, or it has failed
 * before. Never throws: a container does not need it.
 */
export async function prepareTemplate(shape: TemplateShape): Promise<void> {
	try {
		const path = templatePath(shape);
		if (!mayPrepare() || isBusy() || (await isTemplate(path)) || !(await beginAttempt(path))) return;
		if (hasRoom(shape)) launch(shape);
		else forgetAttempt(path);
	} catch {
		/* Such as for a cache that cannot be written. */
	}
}

/**
 * Makes a template as that process does.
 *
 * @param shape as JSON
 * @param signal ends it; the next machine of this shape begins anew then
 */
export async function makePrepared(shape: string, signal: AbortSignal): Promise<void> {
	const wanted = parseShape(shape);
	const path = templatePath(wanted);
	try {
		setPriority(constants.priority.PRIORITY_LOW);
		writeFileSync("/proc/self/oom_score_adj", "1000");
		await makeTemplate(wanted, { signal });
		await removeOldest(path);
	} catch (error) {
		if (error instanceof InterruptedError) forgetAttempt(path);
		else failAttempt(path, explain(error).split("\n")[0]!);
	}
}

function launch(shape: TemplateShape): void {
	const child = spawn(process.execPath, [...ownProgram(), "template", "prepare", JSON.stringify(shape)], {
		cwd: "/",
		detached: true,
		stdio: "ignore",
	});
	child.once("error", () => forgetAttempt(templatePath(shape)));
	child.unref();
}

/** All of its memory at most becomes a file, and meanwhile is RAM of this host. */
function hasRoom({ memoryMiB }: TemplateShape): boolean {
	const { bavail, bsize } = statfsSync(templatesDirectory());
	return bavail * bsize >= (memoryMiB + SPARE_MIB) * 2 ** 20 && freemem() >= memoryMiB * 2 ** 20;
}

/** Whether one is being made. */
function isBusy(): boolean {
	try {
		const fd = openSync(`${templatesDirectory()}/.lock`, "r+");
		try {
			return isLocked(fd);
		} finally {
			closeSync(fd);
		}
	} catch (error) {
		if (errnoName(error) === "ENOENT") return false;
		throw error;
	}
}

/** Those that were used last stay, and `made`. */
async function removeOldest(made: string): Promise<void> {
	const usedMs = ({ path }: { path: string }) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
	const others = (await listTemplates()).filter(({ path }) => path !== made);
	for (const { path } of others.sort((a, b) => usedMs(b) - usedMs(a)).slice(MOST - 1)) removeTemplate(path);
}
