/*
 * What images, containers, volumes and templates take on this host's disk, as `tsvmm system df` counts it, in all and one by one.
 */
import { lstatSync, readdirSync } from "node:fs";
import { parseReference } from "../container/image/reference.ts";
import { ImageStore, type NamedImage } from "../container/image/store.ts";
import { ContainerStore, type StoredContainer } from "../container/life/store.ts";
import { isOutdated, listTemplates, type Template } from "../container/template/store.ts";
import { type Volume, VolumeStore } from "../container/volume/store.ts";
import { describeDuration, describeState, shorten } from "./container/describe.ts";
import { formatRows, type Listing, type Row } from "./format.ts";
import { usersOfImages } from "./image-names.ts";
import { age, size } from "./units.ts";
import { containersWith } from "./volume.ts";

const TOTALS: Listing = {
	headings: { TotalCount: "TOTAL" },
	table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
};

const IMAGES: Listing = {
	headings: { ID: "IMAGE ID", SharedSize: "SHARED SIZE", UniqueSize: "UNIQUE SIZE" },
	table:
		"{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.Created}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
};

const CONTAINERS: Listing = {
	headings: { ID: "CONTAINER ID", LocalVolumes: "LOCAL VOLUMES" },
	table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.Created}}\t{{.Status}}\t{{.Names}}",
};

const VOLUMES: Listing = { headings: { Name: "VOLUME NAME" }, table: "{{.Name}}\t{{.Links}}\t{{.Size}}" };

const TEMPLATES: Listing = {
	headings: { Version: "MADE BY", Cpus: "CPUS" },
	table: "{{.Key}}\t{{.Version}}\t{{.Cpus}}\t{{.Memory}}\t{{.Size}}\t{{.Created}}",
};

/** A line for each kind of thing. */
export async function totals(format: string | undefined): Promise<string> {
	const users = usersOfImages();
	const images = new ImageStore().list();
	const used = images.filter(({ digest }) => users.has(digest));
	const containers = new ContainerStore().list();
	const running = containers.filter((container) => container.isSupervised());
	const volumes = new VolumeStore().list();
	const linked = volumes.filter(({ name }) => containersWith(name).length > 0);
	const written = (chosen: readonly StoredContainer[]) => sum(chosen.map(writtenBytes));
	const kept = (chosen: readonly Volume[]) => sum(chosen.map(({ mountpoint }) => bytesBelow(mountpoint)));
	const templates = await listTemplates();
	const usable = templates.filter((template) => !isOutdated(template));
	const rows: Row[] = [
		{ Type: "Images", ...counts(images, used), ...sizes(layerBytes(images), layerBytes(used)) },
		{ Type: "Containers", ...counts(containers, running), ...sizes(written(containers), written(running)) },
		{ Type: "Local Volumes", ...counts(volumes, linked), ...sizes(kept(volumes), kept(linked)) },
		{ Type: "Templates", ...counts(templates, usable), ...sizes(templateBytes(templates), templateBytes(usable)) },
	];
	return formatRows(rows, TOTALS, format);
}

/** A line for each thing, in four tables. */
export async function details(): Promise<string> {
	const users = usersOfImages();
	const images = new ImageStore().list();
	const tables = [
		["Images", formatRows(imageRows(images, users), IMAGES)],
		["Containers", formatRows(new ContainerStore().list().map(containerRow), CONTAINERS)],
		["Local Volumes", formatRows(new VolumeStore().list().map(volumeRow), VOLUMES)],
		["Templates", formatRows((await listTemplates()).map(templateRow), TEMPLATES)],
	];
	return tables.map(([what, table]) => `${what} space usage:\n\n${table}`).join("\n");
}

function imageRows(images: readonly NamedImage[], users: ReadonlyMap<string, readonly string[]>): Row[] {
	const layers = images.flatMap((image) => [...new Set(image.layers.map(({ digest }) => digest))]);
	const isShared = (digest: string) => layers.indexOf(digest) !== layers.lastIndexOf(digest);
	return images.flatMap((image) => {
		const shared = sum(image.layers.filter(({ digest }) => isShared(digest)).map(({ sizeBytes }) => sizeBytes));
		const all = layerBytes([image]);
		const names = image.names.length > 0 ? image.names.map((name) => parseReference(name)) : [undefined];
		return names.map((name) => ({
			Repository: name?.repository ?? "<none>",
			Tag: name?.tag ?? "<none>",
			ID: image.id.slice(7, 19),
			Created: age(image.created),
			Size: size(all),
			SharedSize: size(shared),
			UniqueSize: size(all - shared),
			Containers: `${users.get(image.digest)?.length ?? 0}`,
		}));
	});
}

function containerRow(container: StoredContainer): Row {
	const { config, shortId } = container;
	return {
		ID: shortId,
		Image: config.image.name,
		Command: `"${shorten(config.process.args.join(" "), 20)}"`,
		LocalVolumes: `${config.mounts.filter(({ volume }) => volume !== undefined).length}`,
		Size: size(writtenBytes(container)),
		Created: `${describeDuration(Math.max(0, Date.now() - Date.parse(config.created)))} ago`,
		Status: statusOf(container),
		Names: config.name,
	};
}

/** A container whose state is damaged takes its room all the same. */
function statusOf(container: StoredContainer): string {
	try {
		return describeState(container.state());
	} catch {
		return "Damaged";
	}
}

function volumeRow({ name, mountpoint }: Volume): Row {
	return { Name: name, Links: `${containersWith(name).length}`, Size: size(bytesBelow(mountpoint)) };
}

function templateRow({ key, bytes, manifest: { machine, tsvmm, created } }: Template): Row {
	const { cpus, memoryMiB } = machine;
	return {
		Key: key,
		Version: tsvmm,
		Cpus: `${cpus}`,
		Memory: `${memoryMiB}MiB`,
		Size: size(bytes),
		Created: age(created),
	};
}

export function templateBytes(templates: readonly Template[]): number {
	return sum(templates.map(({ bytes }) => bytes));
}

/** Of the blobs of all of them; what several have in common counts once. */
function layerBytes(images: readonly NamedImage[]): number {
	const blobs = images.flatMap((image) =>
		image.layers.map(({ digest, sizeBytes }): [string, number] => [digest, sizeBytes]),
	);
	return sum([...new Map(blobs).values()]);
}

function counts(all: readonly unknown[], active: readonly unknown[]): Row {
	return { TotalCount: `${all.length}`, Active: `${active.length}` };
}

function sizes(bytes: number, needed: number): Row {
	const free = bytes - needed;
	const percent = bytes === 0 ? "" : ` (${Math.floor((100 * free) / bytes)}%)`;
	return { Size: size(bytes), Reclaimable: `${size(free)}${percent}` };
}

/** What a container's sparse file takes. */
export function writtenBytes({ paths }: StoredContainer): number {
	return (lstatSync(paths.writable, { throwIfNoEntry: false })?.blocks ?? 0) * 512;
}

/** What the files of a directory take; one with several names counts once. */
function bytesBelow(directory: string): number {
	const seen = new Set<number>();
	let bytes = 0;
	for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true, encoding: "buffer" })) {
		const path = Buffer.concat([Buffer.from(entry.parentPath), Buffer.from("/"), entry.name]);
		const found = lstatSync(path, { throwIfNoEntry: false });
		if (found === undefined || (found.nlink > 1 && !found.isDirectory() && seen.has(found.ino))) continue;
		seen.add(found.ino);
		bytes += found.blocks * 512;
	}
	return bytes;
}

function sum(numbers: readonly number[]): number {
	return numbers.reduce((all, one) => all + one, 0);
}
