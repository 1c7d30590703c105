/*
 * node:fs/promises with a memory, for vi.mock: what a power cut could take away. A name is at risk when it was given to
 * a file whose bytes were not synced before, or when its directory was not synced after.
 *
 *     vi.mock("node:fs/promises", async (original) => (await import("./recorded-disk.ts")).recorded(await original()));
 */
import { readdirSync, statSync } from "node:fs";
import type * as Promises from "node:fs/promises";
import { dirname, join } from "node:path";

type FileSystem = typeof Promises;

/** What was synced and renamed, in order: "sync PATH", "rename FROM TO". */
export const events: string[] = [];
/** Set to let the next sync fail. */
export const fault: { sync?: Error | undefined } = {};

const synced = new Map<number, string>();
const unsyncedData: string[] = [];
const unsyncedNames = new Map<string, string[]>();

/** Final names that a power cut at this moment could take away or leave without content; none is what is wanted. */
export function atRisk(): string[] {
	return [...unsyncedData, ...[...unsyncedNames.values()].flat()];
}

/** Forgets everything. */
export function forget(): void {
	events.length = 0;
	unsyncedData.length = 0;
	unsyncedNames.clear();
	synced.clear();
}

export function recorded(real: FileSystem): FileSystem {
	return {
		...real,
		open: async (path, ...rest) => {
			const handle = await real.open(path, ...rest);
			const sync = handle.sync.bind(handle);
			handle.sync = async () => {
				const { sync: error } = fault;
				fault.sync = undefined;
				if (error !== undefined) throw error;
				await sync();
				noteSync(String(path));
			};
			return handle;
		},
		rename: async (from, to) => {
			const missing = isFinal(String(to)) ? filesOf(String(from)).filter((file) => !isSynced(file)) : [];
			await real.rename(from, to);
			events.push(`rename ${from} ${to}`);
			if (!isFinal(String(to))) return;
			unsyncedData.push(...missing.map((file) => `the bytes of ${file}, now ${to}`));
			const directory = dirname(String(to));
			unsyncedNames.set(directory, [...(unsyncedNames.get(directory) ?? []), `the name ${to}`]);
		},
	};
}

function noteSync(path: string): void {
	events.push(`sync ${path}`);
	unsyncedNames.delete(path);
	synced.set(statSync(path).ino, stateOf(path));
}

/** Temporary names may be lost. */
function isFinal(path: string): boolean {
	return !path.includes("/.") && !path.includes("/staging/");
}

function filesOf(path: string): string[] {
	if (!statSync(path).isDirectory()) return [path];
	return readdirSync(path).flatMap((name) => filesOf(join(path, name)));
}

function isSynced(path: string): boolean {
	return synced.get(statSync(path).ino) === stateOf(path);
}

function stateOf(path: string): string {
	const { size, mtimeNs } = statSync(path, { bigint: true });
	return `${size} ${mtimeNs}`;
}
