/*
 * The host's sources of Debian packages, read from its apt configuration (sources.list(5), one-line and deb822 style).
 * So tsvmm uses the administrator's mirror and keys, and names none itself.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { HostError } from "../base/errors.ts";

/** One archive and suite that apt may read. */
export interface DebianSource {
	uri: string;
	suite: string;
	components: string[];
	/** As in sources.list(5): a key file, or a whole key with its indented lines. */
	signedBy?: string;
}

/** Reads the "Name: value" fields of one deb822 paragraph. A value keeps its continuation lines. */
function fields(paragraph: string): Map<string, string> {
	const found = new Map<string, string>();
	let last = "";
	for (const line of paragraph.split("\n")) {
		if (line.startsWith("#")) continue;
		if (/^[ \t]/.test(line)) {
			found.set(last, `${found.get(last) ?? ""}\n${line}`);
			continue;
		}
		const colon = line.indexOf(":");
		if (colon < 0) continue;
		last = line.slice(0, colon).toLowerCase();
		found.set(last, line.slice(colon + 1).trim());
	}
	return found;
}

const words = (text: string | undefined) => (text ?? "").split(/\s+/).filter((word) => word !== "");

/** Parses a deb822 file ("debian.sources"). */
export function parseDeb822(text: string): DebianSource[] {
	const sources: DebianSource[] = [];
	for (const paragraph of text.split(/\n\s*\n/)) {
		const field = fields(paragraph);
		if (!words(field.get("types")).includes("deb") || field.get("enabled")?.toLowerCase() === "no") continue;
		const signedBy = field.get("signed-by");
		for (const uri of words(field.get("uris"))) {
			for (const suite of words(field.get("suites"))) {
				sources.push({
					uri,
					suite,
					components: words(field.get("components")),
					...(signedBy === undefined ? {} : { signedBy }),
				});
			}
		}
	}
	return sources;
}

/** Parses a one-line style file ("sources.list"). */
export function parseOneLine(text: string): DebianSource[] {
	const sources: DebianSource[] = [];
	for (const line of text.split("\n")) {
		const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)([^#]*)/.exec(line);
		if (match === null) continue;
		const signedBy = /(?:^|\s)signed-by=(\S+)/.exec(match[1] ?? "")?.[1];
		sources.push({
			uri: match[2]!,
			suite: match[3]!,
			components: words(match[4]),
			...(signedBy === undefined ? {} : { signedBy }),
		});
	}
	return sources;
}

/** All sources of an apt configuration directory, without files that cannot be read. */
export function readSources(directory = "/etc/apt"): DebianSource[] {
	const read = (path: string) => {
		try {
			return readFileSync(path, "utf8");
		} catch {
			return "";
		}
	};
	let names: string[] = [];
	try {
		names = readdirSync(join(directory, "sources.list.d")).sort();
	} catch {
		/* There is no such directory, only the one file. */
	}
	return [
		...parseOneLine(read(join(directory, "sources.list"))),
		...names.flatMap((name) => {
			const text = read(join(directory, "sources.list.d", name));
			return name.endsWith(".sources") ? parseDeb822(text) : name.endsWith(".list") ? parseOneLine(text) : [];
		}),
	];
}

/** A suite of Debian's main archive. It also has backports and updates, but not security. */
const SUITE = /^(?:bullseye|bookworm|trixie|forky|(?:old)*stable|testing|unstable|sid)(?:-(?:updates|backports))?$/;

/**
 * The source for a suite: the host's own if it has one, else that suite on the host's Debian mirror.
 *
 * @throws HostError ERR_NO_MIRROR when the host has no Debian mirror configured
 */
export function sourceFor(suite: string, sources: readonly DebianSource[]): DebianSource {
	const own = sources.find((source) => source.suite === suite && source.components.includes("main"));
	if (own !== undefined) return { ...own, components: ["main"] };
	const mirror = sources.find((source) => SUITE.test(source.suite) && source.components.includes("main"));
	if (mirror === undefined) {
		throw new HostError("ERR_NO_MIRROR", `Cannot fetch from Debian's ${suite}: no Debian mirror is configured here`, {
			hint: "Add one to /etc/apt/sources.list, as in sources.list(5)",
		});
	}
	return { ...mirror, suite, components: ["main"] };
}

/** deb822 text for apt. */
export function formatSources(sources: readonly DebianSource[]): string {
	return sources
		.map(({ uri, suite, components, signedBy }) =>
			[
				"Types: deb",
				`URIs: ${uri}`,
				`Suites: ${suite}`,
				`Components: ${components.join(" ")}`,
				...(signedBy === undefined ? [] : [`Signed-By: ${signedBy}`]),
				"",
			].join("\n"),
		)
		.join("\n");
}
