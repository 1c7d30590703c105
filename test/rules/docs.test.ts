import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { filesOf, root, textOf } from "./sources.ts";

/** "src/cli/boot.ts#bootCommand" and "src/kvm/vcpu.ts#Vcpu.run", as the tour writes its stops. */
const STOP = /((?:src|native|guests|test)\/[\w./-]+\.(?:ts|c|h|S))#([\w.]+)/g;

function declares(path: string, symbol: string): boolean {
	const text = textOf(path);
	return symbol.split(".").every((name) => {
		const word = name.replace("$", "\\$");
		return new RegExp(
			`(?:\\b(?:function\\*?|class|interface|type|const|let|struct|enum|define)\\s+#?${word}\\b)|(?:^[\\t ]*(?:[\\w<>\\[\\]*]+[\\t ]+)*[*#]?${word}\\s*[(<=:{])`,
			"m",
		).test(text);
	});
}

test("docs/tour.md has six stops or more, and each exists", () => {
	const stops = [...textOf("docs/tour.md").matchAll(STOP)].map(([stop, path, symbol]) => ({ stop, path, symbol }));
	expect(stops.length).toBeGreaterThanOrEqual(6);
	const gone = stops.filter(({ path, symbol }) => !existsSync(join(root, path!)) || !declares(path!, symbol!));
	expect(gone.map(({ stop }) => stop)).toEqual([]);
});

test("links in the documentation lead to files that exist", () => {
	const documents = [...filesOf("docs", /\.md$/), "README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"];
	const broken = documents.flatMap((path) =>
		[...textOf(path).matchAll(/\]\(([^)\s#]+)(?:#[^)]*)?\)/g)]
			.map(([, target]) => target!)
			.filter((target) => !/^[a-z]+:/.test(target) && !existsSync(join(root, dirname(path), target)))
			.map((target) => `${path}: ${target}`),
	);
	expect(broken).toEqual([]);
});
