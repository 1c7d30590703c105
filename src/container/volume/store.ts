/*
 * Named volumes: directories of the host that containers share and that outlive them.
 *
 *     STATE/volumes/NAME/volume.json   name, time, labels
 *                        _data/        what containers see
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { errnoName, explain, HostError, UsageError } from "../../base/errors.ts";
import { stateDirectory } from "../../host/directories.ts";
import { publish } from "../../host/durable-file.ts";
import { withFileLock } from "../../host/file-lock.ts";

const VolumeRecord = z.object({
	name: z.string(),
	/** ISO 8601. */
	created: z.string(),
	labels: z.record(z.string(), z.string()),
	/** Made for one container alone; it goes with `rm -v`. */
	anonymous: z.boolean(),
});

/** A volume, and where its files are. */
export interface Volume extends z.infer<typeof VolumeRecord> {
	/** The directory that containers see. */
	readonly mountpoint: string;
}

const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

export class VolumeStore {
	readonly directory = join(stateDirectory(), "volumes");

	/**
	 * Makes a volume, or finds the one that there is.
	 *
	 * @param name a random one, of an anonymous volume, when missing
	 * @throws UsageError ERR_VOLUME_NAME
	 */
	async create(name?: string, labels: Readonly<Record<string, string>> = {}): Promise<Volume> {
		const chosen = name ?? randomBytes(32).toString("hex");
		checkVolumeName(chosen);
		return await this.#alone(async () => {
			const present = this.#read(chosen);
			if (present !== undefined) return present;
			const temporary = join(this.directory, `.${chosen}`);
			await rm(temporary, { recursive: true, force: true });
			await mkdir(join(temporary, "_data"), { recursive: true, mode: 0o755 });
			const record = { name: chosen, created: new Date().toISOString(), labels, anonymous: name === undefined };
			await writeFile(join(temporary, "volume.json"), `${JSON.stringify(record, undefined, "\t")}\n`);
			await publish(temporary, join(this.directory, chosen));
			return this.#read(chosen)!;
		});
	}

	/** @throws HostError ERR_VOLUME_NOT_FOUND */
	find(name: string): Volume {
		const volume = NAME.test(name) ? this.#read(name) : undefined;
		if (volume !== undefined) return volume;
		throw new HostError("ERR_VOLUME_NOT_FOUND", `Cannot find volume ${name}: no such volume`, {
			hint: "See tsvmm volume ls for their names",
		});
	}

	/** All volumes, by name. */
	list(): Volume[] {
		return names(this.directory).flatMap((name) => this.#read(name) ?? []);
	}

	/**
	 * Removes a volume with all that is in it.
	 *
	 * @param users the containers that have it; it is asked while no volume is made or removed
	 * @throws HostError ERR_VOLUME_IN_USE
	 */
	async remove(name: string, users: (name: string) => readonly string[]): Promise<void> {
		this.find(name);
		await this.#alone(async () => {
			const using = users(name);
			if (using.length > 0) {
				throw new HostError("ERR_VOLUME_IN_USE", `Cannot remove volume ${name}: container ${using[0]} has it`, {
					hint: `Remove the container first: tsvmm rm ${using[0]}`,
				});
			}
			const doomed = join(this.directory, `.${name}.${randomBytes(4).toString("hex")}`);
			await rename(join(this.directory, name), doomed);
			await rm(doomed, { recursive: true, force: true });
		});
	}

	/** Removes a volume that was made for one container, which is gone. */
	async removeAnonymous(name: string): Promise<void> {
		if (this.#read(name)?.anonymous === true) await this.remove(name, () => []);
	}

	#read(name: string): Volume | undefined {
		const path = join(this.directory, name, "volume.json");
		try {
			const record = VolumeRecord.parse(JSON.parse(readFileSync(path, "utf8")));
			return { ...record, mountpoint: join(this.directory, name, "_data") };
		} catch (error) {
			if (errnoName(error) === "ENOENT") return undefined;
			const found = error instanceof z.ZodError || error instanceof SyntaxError ? "it is damaged" : explain(error);
			throw new HostError("ERR_VOLUME_STATE", `Cannot read ${path}: ${found}`, { cause: error });
		}
	}

	async #alone<T>(work: () => Promise<T>): Promise<T> {
		mkdirSync(this.directory, { recursive: true, mode: 0o700 });
		return await withFileLock(join(this.directory, ".lock"), work);
	}
}

/** @throws UsageError ERR_VOLUME_NAME */
export function checkVolumeName(name: string): void {
	if (NAME.test(name) && name.length <= 255) return;
	throw new UsageError("ERR_VOLUME_NAME", `Cannot name a volume "${name}"`, {
		hint: "Use a letter or digit, then letters, digits, dots, dashes and underscores",
	});
}

function names(directory: string): string[] {
	try {
		return readdirSync(directory)
			.filter((name) => NAME.test(name))
			.sort();
	} catch (error) {
		if (errnoName(error) === "ENOENT") return [];
		throw error;
	}
}
