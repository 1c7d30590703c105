/*
 * The TypeScript in the documentation compiles. What a block leaves out is added: imports of what the package exports, and
 * a machine, a container or a kernel where the text speaks of one.
 */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { root, textOf } from "../rules/sources.ts";
import { type Block, blocksOf, PAGES } from "./pages.ts";

/** What a text may have introduced in words. */
const GIVEN: Readonly<Record<string, string>> = {
	machine: 'declare const machine: import("tsvmm").Machine;',
	container: 'declare const container: import("tsvmm").Container;',
	kernel: "declare const kernel: string;",
	Multiplication: 'declare const Multiplication: new () => import("tsvmm").FileSystem;',
};

/** Programs, not listings of signatures: they import, call or wait. */
const isProgram = ({ language, text }: Block) =>
	(language === "ts" || language === "") &&
	/^(import|await|const .*= (await|new)|Machine\.|machine\.)/m.test(text) &&
	!/^(\$|tsvmm|guest#) /m.test(text);

const exported = (entry: string) => {
	const names = textOf(entry).matchAll(/^export (?:type )?\{([^}]*)\}/gm);
	return [...names]
		.flatMap(([, list]) => list!.split(",").map((name) => name.trim().replace(/^type /, "")))
		.filter(Boolean);
};
const ENTRIES = { tsvmm: exported("src/index.ts"), "tsvmm/virtio": exported("src/virtio.ts") };

function complete(text: string): string {
	const uses = (name: string) =>
		new RegExp(`\\b${name}\\b`).test(text) &&
		!new RegExp(`(const|let|using|class|function) ${name}\\b|import.*\\b${name}\\b`).test(text);
	const imports = Object.entries(ENTRIES).map(
		([entry, names]) => `import { ${names.filter(uses).join(", ")} } from "${entry}";`,
	);
	const given = Object.entries(GIVEN).filter(([name]) => uses(name));
	return [...imports, ...given.map(([, declaration]) => declaration), text, "export {};", ""].join("\n");
}

test("the TypeScript blocks of the documentation compile", async () => {
	const programs = PAGES.flatMap(blocksOf).filter(isProgram);
	expect(programs.length).toBeGreaterThan(8);
	const directory = await mkdtemp(join(root, "build/blocks-"));
	try {
		for (const [index, { page, line, text }] of programs.entries()) {
			const name = `${index}-${page.replaceAll(/\W+/g, "-")}-${line}.ts`;
			await writeFile(join(directory, name), complete(text));
		}
		const config = {
			extends: join(root, "tsconfig.json"),
			compilerOptions: {
				noUnusedLocals: false,
				verbatimModuleSyntax: false,
				typeRoots: [join(root, "node_modules/@types")],
				paths: {
					tsvmm: [join(root, "src/index.ts")],
					"tsvmm/virtio": [join(root, "src/virtio.ts")],
					"tsvmm/kvm": [join(root, "src/kvm.ts")],
				},
			},
			include: [directory],
		};
		await writeFile(join(directory, "tsconfig.json"), JSON.stringify(config));
		const output = await new Promise<string>((resolve) => {
			execFile(join(root, "node_modules/.bin/tsc"), ["-p", directory], (_, stdout) => resolve(stdout));
		});
		expect(output).toBe("");
	} finally {
		await rm(directory, { recursive: true });
	}
}, 120_000);
