/*
 * Named things of a user's, each a directory with one JSON file that says what it is:
 *
 *     STATE/KIND/NAME/KIND.json
 *
 * A name appears whole or not at all. Things are made and removed by one process at a time.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoName, explain, HostError } from "../base/errors.ts";
import * as z from "../base/schema.ts";
import { publish } from "../host/durable-file.ts";
import { withFileLock } from "../host/file-lock.ts";
import { writingState } from "./state-failure.ts";

const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

/** Whether Docker would take the name. */
export function isName(text: string): boolean {
	return NAME.test(text) && text.length <= 255;
}

export interface RecordDirectoryOptions<Schema extends z.ZodType> {
	/** Where the things' directories are. */
	directory: string;
	/** Name of the JSON file. */
	file: string;
	schema: Schema;
	/** The error's code for a file that cannot be read. */
	damagedCode: string;
}

export class RecordDirectory<Schema extends z.ZodType> {
	readonly #options: RecordDirectoryOptions<Schema>;

	constructor(options: RecordDirectoryOptions<Schema>) {
		this.#options = options;
	}

	/** The directory of one thing. */
	pathOf(name: string): string {
		return join(this.#options.directory, name);
	}

	/** Undefined when there is none of that name. @throws HostError `damagedCode` */
	read(name: string): z.infer<Schema> | undefined {
		if (!isName(name)) return undefined;
		const { file, schema, damagedCode } = this.#options;
		const path = join(this.pathOf(name), file);
		try {
			return schema.parse(JSON.parse(readFileSync(path, "utf8")));
		} catch (error) {
			if (errnoName(error) === "ENOENT") return undefined;
			const found = error instanceof z.ZodError || error instanceof SyntaxError ? "it is damaged" : explain(error);
			throw new HostError(damagedCode, `Cannot read ${path}: ${found}`, { cause: error });
		}
	}

	/** All names, sorted. */
	names(): string[] {
		try {
			return readdirSync(this.#options.directory).filter(isName).sort();
		} catch (error) {
			if (errnoName(error) === "ENOENT") return [];
			throw error;
		}
	}

	/** For a caller of `alone`: makes a thing, with empty directories in it. */
	async create(name: string, record: z.infer<Schema>, directories: readonly string[] = []): Promise<void> {
		const temporary = this.pathOf(`.${name}`);
		await rm(temporary, { recursive: true, force: true });
		await mkdir(temporary, { recursive: true, mode: 0o755 });
		try {
			for (const directory of directories) await mkdir(join(temporary, directory), { mode: 0o755 });
			await writeFile(join(temporary, this.#options.file), `${JSON.stringify(record, undefined, "\t")}\n`);
			await publish(temporary, this.pathOf(name));
		} catch (error) {
			await rm(temporary, { recursive: true, force: true });
			throw error;
		}
	}

	/** For a caller of `alone`: removes a thing with all that is in it. */
	async remove(name: string): Promise<void> {
		const doomed = this.pathOf(`.${name}.${randomBytes(4).toString("hex")}`);
		await rename(this.pathOf(name), doomed);
		await rm(doomed, { recursive: true, force: true });
	}

	/** Runs `work` while nobody else makes or removes one. */
	async alone<T>(work: () => Promise<T>): Promise<T> {
		const { directory } = this.#options;
		return await writingState(async () => {
			mkdirSync(directory, { recursive: true, mode: 0o700 });
			return await withFileLock(join(directory, ".lock"), work);
		});
	}
}
