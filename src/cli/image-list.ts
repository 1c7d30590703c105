/*
 * `tsvmm images`, also `tsvmm image ls`: the images of the store in Docker's columns, filtered and formatted as Docker does.
 */
import { Command } from "commander";
import { UsageError } from "../base/errors.ts";
import { parseReference } from "../container/image/reference.ts";
import { ImageStore, type NamedImage } from "../container/image/store.ts";
import { locate } from "../container/registry/location.ts";
import { FORMAT_HELP, formatRows, type Listing, type Row } from "./format.ts";
import { append } from "./options.ts";
import { printJson } from "./output.ts";
import { age, size, timestamp } from "./units.ts";

interface ListFlags {
	quiet?: boolean;
	filter: string[];
	format?: string;
	digests?: boolean;
	trunc: boolean;
	json?: boolean;
}

const HEADINGS = { ID: "IMAGE ID", CreatedSince: "CREATED", CreatedAt: "CREATED AT" };
const TABLE = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const DIGESTS_TABLE = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const NONE = "<none>";

/** @param name "images", or "ls" below `tsvmm image` */
export function imageListCommand(name: "images" | "ls"): Command {
	const command = new Command(name)
		.description("list images")
		.argument("[image]", "REPOSITORY[:TAG] to list alone, also with * and ?")
		.option("-a, --all", "accepted for Docker's sake: no image is hidden")
		.option("-q, --quiet", "print IDs alone")
		.option("-f, --filter <name=value>", "before, dangling, label, reference or since; may be repeated", append, [])
		.option("--format <format>", FORMAT_HELP)
		.option("--digests", "show digests")
		.option("--no-trunc", "print IDs in full")
		.option("--json", "one JSON array with everything that is known")
		.action((pattern: string | undefined, flags: ListFlags) => list(pattern, flags));
	return name === "ls" ? command.alias("list") : command;
}

function list(pattern: string | undefined, flags: ListFlags): void {
	const store = new ImageStore();
	const filters = flags.filter.map((text) => parseFilter(store, text));
	if (pattern !== undefined) filters.push(referenceFilter(pattern));
	const images = store.list().sort(newestFirst);
	const rows = images.flatMap((image) => rowsOf(image, flags)).filter(({ row }) => filters.every((fits) => fits(row)));
	if (flags.json === true) {
		printJson(images.filter((image) => rows.some(({ row }) => row.image.digest === image.digest)));
		return;
	}
	const table = flags.digests === true ? DIGESTS_TABLE : TABLE;
	const listing: Listing = { headings: HEADINGS, table };
	if (flags.quiet === true && flags.format === undefined) {
		process.stdout.write(rows.map(({ fields }) => `${fields.ID}\n`).join(""));
	} else
		process.stdout.write(
			formatRows(
				rows.map(({ fields }) => fields),
				listing,
				flags.format,
			),
		);
}

/** As Docker: the newest first, and by name what is equally old. */
function newestFirst(a: NamedImage, b: NamedImage): number {
	const time = ({ created }: NamedImage) => Date.parse(created ?? "") || 0;
	return time(b) - time(a);
}

/** An image under one of its names. */
interface NameRow {
	readonly image: NamedImage;
	readonly repository: string;
	readonly tag: string;
	readonly digest: string;
}

function rowsOf(image: NamedImage, { trunc }: ListFlags): { row: NameRow; fields: Row & { ID: string } }[] {
	const digests = image.repoDigests.map((name) => parseReference(name));
	const tagged = image.names.map((name) => parseReference(name));
	const digestIn = (repository: string) => digests.find((one) => one.repository === repository)?.digest ?? NONE;
	const names = tagged.map(({ repository, tag }) => ({ repository, tag: tag!, digest: digestIn(repository) }));
	for (const { repository, digest } of digests) {
		if (names.length === 0) names.push({ repository, tag: NONE, digest: digest! });
	}
	if (names.length === 0) names.push({ repository: NONE, tag: NONE, digest: NONE });
	return names.map(({ repository, tag, digest }) => ({
		row: { image, repository, tag, digest },
		fields: {
			Repository: repository,
			Tag: tag,
			Digest: digest,
			ID: trunc ? image.id.slice(7, 19) : image.id,
			CreatedSince: age(image.created),
			CreatedAt: timestamp(image.created),
			Size: size(image.sizeBytes),
			VirtualSize: size(image.sizeBytes),
			SharedSize: "N/A",
			UniqueSize: "N/A",
			Containers: "N/A",
			Label: (name: string) => image.config.labels[name] ?? "",
		},
	}));
}

type Filter = (row: NameRow) => boolean;

function parseFilter(store: ImageStore, text: string): Filter {
	const equals = text.indexOf("=");
	const name = equals < 0 ? text : text.slice(0, equals);
	const value = text.slice(equals + 1);
	if (equals > 0 && value !== "") {
		switch (name) {
			case "dangling":
				if (!/^(true|false|0|1)$/.test(value)) break;
				return ({ tag }) => (tag === NONE) === (value === "true" || value === "1");
			case "label":
				return labelFilter(value);
			case "reference":
				return referenceFilter(value);
			case "before":
			case "since": {
				const than = Date.parse(store.find(value).created ?? "");
				return ({ image }) => (name === "before" ? createdOf(image) < than : createdOf(image) > than);
			}
		}
	}
	throw new UsageError("ERR_FILTER", `Cannot filter images by "${text}"`, {
		hint: "Use before=IMAGE, dangling=true|false, label=NAME[=VALUE], reference=PATTERN or since=IMAGE",
	});
}

function createdOf({ created }: NamedImage): number {
	return Date.parse(created ?? "");
}

function labelFilter(value: string): Filter {
	const equals = value.indexOf("=");
	const name = equals < 0 ? value : value.slice(0, equals);
	return ({ image }) => {
		const found = image.config.labels[name];
		return found !== undefined && (equals < 0 || found === value.slice(equals + 1));
	};
}

/** "busybox", "busybox:1.*", "localhost:5000/*": a pattern of path.Match, of the familiar name or of the whole one. */
function referenceFilter(pattern: string): Filter {
	const expression = new RegExp(
		`^${pattern
			.replace(/[.+^${}()|\\]/g, "\\$&")
			.replaceAll("*", "[^/]*")
			.replaceAll("?", "[^/]")}$`,
	);
	return ({ repository, tag }) => {
		if (repository === NONE) return false;
		const { registry, path } = locate(repository);
		const names = [repository, `${registry}/${path}`];
		const all = tag === NONE ? names : [...names, ...names.map((name) => `${name}:${tag}`)];
		return all.some((name) => expression.test(name));
	};
}
