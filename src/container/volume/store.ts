/*
 * Named volumes: directories of the host that containers share and that outlive them.
 *
 *     STATE/volumes/NAME/volume.json   name, time, labels
 *                        _data/        what containers see
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { HostError, UsageError } from "../../base/errors.ts";
import * as z from "../../base/schema.ts";
import { stateDirectory } from "../../host/directories.ts";
import { isName, RecordDirectory } from "../record-directory.ts";

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

export class VolumeStore {
	readonly directory = join(stateDirectory(), "volumes");
	readonly #records = new RecordDirectory({
		directory: this.directory,
		file: "volume.json",
		schema: VolumeRecord,
		damagedCode: "ERR_VOLUME_STATE",
	});

	/**
	 * Makes a volume, or finds the one that there is.
	 *
	 * @param name a random one, of an anonymous volume, when missing
	 * @throws UsageError ERR_VOLUME_NAME
	 */
	async create(name?: string, labels: Readonly<Record<string, string>> = {}): Promise<Volume> {
		const chosen = name ?? randomBytes(32).toString("hex");
		checkVolumeName(chosen);
		return await this.#records.alone(async () => {
			const present = this.#read(chosen);
			if (present !== undefined) return present;
			const record = { name: chosen, created: new Date().toISOString(), labels, anonymous: name === undefined };
			await this.#records.create(chosen, record, ["_data"]);
			return this.#read(chosen)!;
		});
	}

	/** @throws HostError ERR_VOLUME_NOT_FOUND */
	find(name: string): Volume {
		const volume = this.#read(name);
		if (volume !== undefined) return volume;
		throw new HostError("ERR_VOLUME_NOT_FOUND", `Cannot find volume ${name}: no such volume`, {
			hint: "See tsvmm volume ls for their names",
		});
	}

	/** All volumes, by name. */
	list(): Volume[] {
		return this.#records.names().flatMap((name) => this.#read(name) ?? []);
	}

	/**
	 * Removes a volume with all that is in it.
	 *
	 * @param users the containers that have it; it is asked while no volume is made or removed
	 * @throws HostError ERR_VOLUME_IN_USE
	 */
	async remove(name: string, users: (name: string) => readonly string[]): Promise<void> {
		this.find(name);
		await this.#records.alone(async () => {
			const using = users(name);
			if (using.length > 0) {
				throw new HostError("ERR_VOLUME_IN_USE", `Cannot remove volume ${name}: container ${using[0]} has it`, {
					hint: `Remove the container first: tsvmm rm ${using[0]}`,
				});
			}
			await this.#records.remove(name);
		});
	}

	/** Removes a volume that was made for one container, which is gone. */
	async removeAnonymous(name: string): Promise<void> {
		if (this.#read(name)?.anonymous === true) await this.remove(name, () => []);
	}

	#read(name: string): Volume | undefined {
		const record = this.#records.read(name);
		return record && { ...record, mountpoint: join(this.directory, name, "_data") };
	}
}

/** @throws UsageError ERR_VOLUME_NAME */
export function checkVolumeName(name: string): void {
	if (isName(name)) return;
	throw new UsageError("ERR_VOLUME_NAME", `Cannot name a volume "${name}"`, {
		hint: "Use a letter or digit, then letters, digits, dots, dashes and underscores",
	});
}
