/*
 * docs/api.md, made from the public entries and their doc comments: what is exported, with its signature and its words.
 *
 *     node scripts/api.mjs      writes docs/api.md; says what has no words, and which types an entry names but does not export
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { pathToFileURL } from "node:url";
import { Node, Project, Scope, TypeFormatFlags } from "ts-morph";
import { main, root, StepError, say } from "./steps.mjs";

/** Public entries by the name that one imports. */
export const ENTRIES = { tsvmm: "src/index.ts", "tsvmm/virtio": "src/virtio.ts", "tsvmm/kvm": "src/kvm.ts" };

const INTRODUCTION = `# API

What \`import\` from \`tsvmm\`, \`tsvmm/virtio\` and \`tsvmm/kvm\` gives. This page is made from the doc comments by
\`node scripts/api.mjs\`; a test compares it with the sources. What it names is kept by semantic versioning
([CONTRIBUTING.md](../CONTRIBUTING.md)); what it does not name is nobody's to import.
`;

const SECTIONS = [
	["Functions", Node.isFunctionDeclaration],
	["Classes", Node.isClassDeclaration],
	["Interfaces", Node.isInterfaceDeclaration],
	["Types", Node.isTypeAliasDeclaration],
	["Constants", Node.isVariableDeclaration],
];

/** The doc comment of a declaration as Markdown: its text, then parameters, result and errors as a list. */
function words(node) {
	const holder = Node.isVariableDeclaration(node) ? node.getVariableStatement() : node;
	const doc = holder?.getJsDocs?.().at(-1);
	if (doc === undefined) return "";
	const tags = doc.getTags().map((tag) => {
		const text = (tag.getCommentText() ?? "").replace(/\s*\n\s*/g, " ").trim();
		if (Node.isJSDocParameterTag(tag)) return `- \`${tag.getName()}\`: ${text}`;
		return `- ${{ throws: "throws", returns: "returns" }[tag.getTagName()] ?? `@${tag.getTagName()}`} ${text}`;
	});
	return [doc.getDescription().trim(), tags.join("\n")].filter((part) => part !== "").join("\n\n");
}

const typeText = (type, node) =>
	type.getText(node, TypeFormatFlags.UseAliasDefinedOutsideCurrentScope | TypeFormatFlags.NoTruncation);

/** "create(config: MachineConfig, options?: CreateOptions): Promise<Machine>" */
function signature(node, name) {
	const parameters = node
		.getParameters()
		.map((parameter) => {
			const optional = parameter.isOptional() ? "?" : "";
			const label = Node.isIdentifier(parameter.getNameNode()) ? parameter.getName() : "options";
			const type = parameter.getTypeNode()?.getText() ?? typeText(parameter.getType(), parameter);
			return `${parameter.isRestParameter() ? "..." : ""}${label}${optional}: ${oneLine(type)}`;
		})
		.join(", ");
	const generics = node.getTypeParameters?.().map((one) => one.getText()) ?? [];
	const result = node.getReturnTypeNode?.()?.getText() ?? (node.getReturnType && typeText(node.getReturnType(), node));
	return `${name}${generics.length > 0 ? `<${generics.join(", ")}>` : ""}(${parameters})${result === undefined ? "" : `: ${oneLine(result)}`}`;
}

const oneLine = (text) =>
	text
		.replace(/\/\*\*?.*?\*\//gs, "")
		.replace(/\s+/g, " ")
		.trim();

function property(node) {
	const optional = node.hasQuestionToken?.() ? "?" : "";
	const readonly = node.isReadonly?.() ? "readonly " : "";
	const type =
		node.getTypeNode?.()?.getText() ?? node.getReturnTypeNode?.()?.getText() ?? typeText(node.getType(), node);
	return `${readonly}${node.getName()}${optional}: ${oneLine(type)}`;
}

const isInternal = (node) =>
	node.getJsDocs?.().some((doc) => doc.getTags().some((tag) => tag.getTagName() === "internal"));

/** Members that a user sees, in the order of the source. */
function members(node) {
	if (Node.isInterfaceDeclaration(node)) return node.getMembers();
	return node
		.getMembers()
		.filter((member) => !(member.getName?.() ?? "").startsWith("#"))
		.filter((member) => (member.getScope?.() ?? Scope.Public) === Scope.Public)
		.filter((member) => !isInternal(member));
}

function memberLine(owner, member) {
	const fixed = member.isStatic?.() ? `${owner}.` : "";
	if (Node.isConstructorDeclaration(member)) return signature(member, `new ${owner}`).replace(/: \w+$/, "");
	if (Node.isMethodDeclaration(member) || Node.isMethodSignature(member)) {
		const optional = member.hasQuestionToken?.() ? "?" : "";
		return fixed + signature(member, member.getName() + optional);
	}
	if (Node.isGetAccessorDeclaration(member)) return `${fixed}readonly ${property(member)}`;
	if (Node.isSetAccessorDeclaration(member)) return undefined;
	return member.getName === undefined ? oneLine(member.getText()) : fixed + property(member);
}

/** One export as Markdown. `complain` hears of members without words. */
function describe(name, node, complain) {
	const text = words(node);
	if (text === "") complain(name);
	const parts = [`#### ${name}`];
	if (Node.isFunctionDeclaration(node)) {
		parts.push(`\`\`\`ts\n${signature(node, name)}\n\`\`\``, text);
	} else if (Node.isClassDeclaration(node) || Node.isInterfaceDeclaration(node)) {
		const bases = Node.isClassDeclaration(node) ? [node.getExtends()] : node.getExtends();
		const over = bases.filter((base) => base !== undefined).map((base) => `\`${base.getText()}\``);
		if (over.length > 0) parts.push(`Extends ${over.join(", ")}.`);
		parts.push(text);
		const lines = members(node).flatMap((member) => {
			const line = memberLine(name, member);
			if (line === undefined) return [];
			const said = words(member);
			if (said === "" && !/^(readonly )?\[?(name|Symbol)/.test(line) && !inherits(node, member))
				complain(`${name}: ${line}`);
			return [`- \`${line}\`${said === "" ? "" : `\n${said.replace(/^(?=.)/gm, "  ")}`}`];
		});
		parts.push(lines.join("\n"));
	} else if (Node.isTypeAliasDeclaration(node)) {
		parts.push(
			`\`\`\`ts\n${node
				.getText()
				.replace(/^\/\*\*.*?\*\/\s*/s, "")
				.replace(/^export /, "")}\n\`\`\``,
			text,
		);
	} else {
		parts.push(`\`const ${name}: ${oneLine(typeText(node.getType(), node)).slice(0, 200)}\``, text);
	}
	return parts.filter((part) => part !== "").join("\n\n");
}

/** Whether a member's words stand at what its class implements or extends. */
function inherits(node, member) {
	if (!Node.isClassDeclaration(node)) return false;
	const name = member.getName?.();
	const above = [...node.getImplements(), ...(node.getExtends() ? [node.getExtends()] : [])];
	return name !== undefined && above.some((base) => base.getType().getProperty(name) !== undefined);
}

/** Types of ours that the signatures of an export name. */
function named(node) {
	const holders =
		Node.isClassDeclaration(node) || Node.isInterfaceDeclaration(node)
			? members(node).flatMap((member) => [
					...(member.getParameters?.() ?? []).map((parameter) => parameter.getTypeNode()),
					member.getReturnTypeNode?.(),
					member.getTypeNode?.(),
				])
			: Node.isFunctionDeclaration(node)
				? [...node.getParameters().map((parameter) => parameter.getTypeNode()), node.getReturnTypeNode()]
				: [node.getTypeNode?.()];
	return holders
		.filter((type) => type !== undefined)
		.flatMap((type) => [type, ...type.getDescendants()])
		.filter(Node.isTypeReference)
		.map((reference) => reference.getTypeName())
		.filter(Node.isIdentifier)
		.filter((name) => {
			const declared = name.getDefinitionNodes()[0];
			const path = declared === undefined ? "" : relative(root, declared.getSourceFile().getFilePath());
			return path.startsWith("src/") && !Node.isTypeParameterDeclaration(declared);
		})
		.map((name) => name.getText());
}

/**
 * Reads the entries.
 *
 * @returns {{ markdown: string, wordless: string[], missing: string[] }} `wordless` are exports and members without a doc
 * comment, `missing` types that signatures name and no entry exports
 */
export function readApi() {
	const project = new Project({ tsConfigFilePath: join(root, "tsconfig.json"), skipAddingFilesFromTsConfig: true });
	const wordless = [];
	const wanted = new Map();
	const exported = new Set();
	const pages = Object.entries(ENTRIES).map(([entry, path]) => {
		const source = project.addSourceFileAtPath(join(root, path));
		const all = [...source.getExportedDeclarations()].map(([name, [node]]) => ({ name, node }));
		all.sort((a, b) => a.name.localeCompare(b.name, "en"));
		for (const { name, node } of all) {
			exported.add(name);
			for (const type of named(node)) wanted.set(type, `${entry} ${name}`);
		}
		const sections = SECTIONS.flatMap(([title, is]) => {
			const these = all.filter(({ node }) => is(node));
			if (these.length === 0) return [];
			const texts = these.map(({ name, node }) => describe(name, node, (what) => wordless.push(`${entry} ${what}`)));
			return [`### ${title}`, ...texts];
		});
		const about = readFileSync(join(root, path), "utf8").match(/^\/\*\n(.*?)\*\//s)?.[1] ?? "";
		return [`## ${entry}`, about.replace(/^ \* ?/gm, "").trim(), ...sections].join("\n\n");
	});
	const missing = [...wanted]
		.filter(([type]) => !exported.has(type))
		.map(([type, from]) => `${type}, named by ${from}`);
	return { markdown: `${INTRODUCTION}\n${pages.join("\n\n")}\n`, wordless, missing };
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
	await main("api", async () => {
		const { markdown, wordless, missing } = readApi();
		writeFileSync(join(root, "docs/api.md"), markdown);
		for (const what of wordless) say("api", `no words: ${what}`);
		for (const what of missing) say("api", `not exported: ${what}`);
		if (wordless.length + missing.length > 0) throw new StepError("docs/api.md is not complete");
	});
}
