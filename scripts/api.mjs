/*
 * docs/api.md, made from the public entries and their doc comments: what is exported, with its signature and its words.
 *
 *     node scripts/api.mjs              writes docs/api.md
 *     node scripts/api.mjs --check      fails when docs/api.md is not what would be written
 *
 * Both fail when an export or a member of one has no doc comment, or when a signature names a type that no entry exports.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { Node, Project, Scope, TypeFormatFlags } from "ts-morph";
import { main, root, StepError, say } from "./steps.mjs";

/** Public entries by the name that one imports. */
const ENTRIES = { tsvmm: "src/index.ts", "tsvmm/virtio": "src/virtio.ts", "tsvmm/kvm": "src/kvm.ts" };

const INTRODUCTION = `# API

What \`import\` from \`tsvmm\`, \`tsvmm/virtio\` and \`tsvmm/kvm\` gives; [examples](examples) show it at work. What this
page names is kept by semantic versioning ([CONTRIBUTING.md](../CONTRIBUTING.md)); what it does not name may change at any
time. An error has a class from below and a code that stays ([errors.md](errors.md)).

\`npm run api\` makes this page from the doc comments.
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
	const tags = doc.getTags().filter((tag) => tag.getTagName() !== "example");
	const list = tags.map((tag) => {
		const text = (tag.getCommentText() ?? "").replace(/\s*\n\s*/g, " ").trim();
		if (Node.isJSDocParameterTag(tag)) return `- \`${tag.getName()}\`: ${text}`;
		return `- ${tag.getTagName()} ${text}`;
	});
	const examples = doc
		.getTags()
		.filter((tag) => tag.getTagName() === "example")
		.map((tag) => `\`\`\`ts\n${tag.getCommentText()}\n\`\`\``);
	return [doc.getDescription().trim(), list.join("\n"), ...examples].filter((part) => part !== "").join("\n\n");
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

/** The base of MachineConfig that is computed from a table. It has no page of its own: its members are MachineConfig's. */
const isComputed = (base) => base.getText() === "DeviceFields";

/** Members that a user sees, in the order of the source. */
function members(node) {
	if (Node.isInterfaceDeclaration(node)) {
		const computed = node.getExtends().filter(isComputed);
		const properties = computed.flatMap((base) => base.getType().getProperties());
		return [...node.getMembers(), ...properties.flatMap((property) => property.getDeclarations())];
	}
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
		const over = bases.filter((base) => base !== undefined && !isComputed(base)).map((base) => `\`${base.getText()}\``);
		if (over.length > 0) parts.push(`Extends ${over.join(", ")}.`);
		parts.push(text);
		const inherited = new Map();
		const lines = members(node).flatMap((member) => {
			const line = memberLine(name, member);
			if (line === undefined) return [];
			const said = words(member);
			const origin = said === "" ? inheritedFrom(node, member) : undefined;
			if (origin !== undefined) {
				inherited.set(origin, [...(inherited.get(origin) ?? []), member.getName()]);
				return [];
			}
			if (said === "") complain(`${name}: ${line}`);
			return [`- \`${line}\`${said === "" ? "" : `\n${said.replace(/^(?=.)/gm, "  ")}`}`];
		});
		for (const [origin, names] of inherited) {
			lines.push(`- As of \`${origin}\`: ${names.map((one) => `\`${one}\``).join(", ")}`);
		}
		parts.push(lines.join("\n"));
	} else if (Node.isTypeAliasDeclaration(node)) {
		const written = node
			.getText()
			.replace(/^\/\*\*.*?\*\/\s*/s, "")
			.replace(/^export /, "");
		/* What is computed from a value that is not exported is shown as what comes out. */
		const computed = `type ${name} = ${node.getType().getText(node, TypeFormatFlags.InTypeAlias | TypeFormatFlags.NoTruncation)};`;
		parts.push(`\`\`\`ts\n${/\btypeof\b/.test(written) ? computed : written}\n\`\`\``, text);
	}
	return parts.filter((part) => part !== "").join("\n\n");
}

/** The name of what a class implements or extends, when a member's words stand there. */
function inheritedFrom(node, member) {
	const name = member.getName?.();
	if (!Node.isClassDeclaration(node) || name === undefined) return undefined;
	const above = [...node.getImplements(), ...(node.getExtends() ? [node.getExtends()] : [])];
	return above.find((base) => base.getType().getProperty(name) !== undefined)?.getText();
}

/**
 * Constants as in a header: those without an empty line between them are one group, and the first one's words are for
 * all of them.
 */
function describeConstants(constants, complain) {
	const groups = [];
	let previous;
	for (const { name, node } of constants) {
		const statement = node.getVariableStatement();
		const between =
			previous?.getSourceFile() === statement.getSourceFile()
				? statement.getSourceFile().getFullText().slice(previous.getEnd(), statement.getStart(true))
				: "\n\n";
		if (words(node) !== "" || between !== "\n") {
			groups.push({ text: words(node), lines: [] });
			if (words(node) === "") complain(name);
		}
		const value = (node.getInitializer()?.getText() ?? "").replace(/ as const$/, "");
		groups
			.at(-1)
			.lines.push(`${name} = ${/^[\w.]+$|^(struct|\{)/.test(value) ? value : typeText(node.getType(), node)}`);
		previous = statement;
	}
	return groups.map(({ text, lines }) => `${text}\n\n\`\`\`ts\n${lines.join("\n")}\n\`\`\``);
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
function readApi() {
	const project = new Project({ tsConfigFilePath: join(root, "tsconfig.json"), skipAddingFilesFromTsConfig: true });
	const wordless = [];
	const wanted = new Map();
	const exported = new Set();
	const pages = Object.entries(ENTRIES).map(([entry, path]) => {
		const source = project.addSourceFileAtPath(join(root, path));
		const all = [...source.getExportedDeclarations()].map(([name, [node]]) => ({ name, node }));
		all.sort((a, b) => a.name.localeCompare(b.name, "en"));
		const again = all.filter(({ name }) => exported.has(name)).map(({ name }) => `\`${name}\``);
		const own = all.filter(({ name }) => !exported.has(name));
		for (const { name, node } of own) {
			exported.add(name);
			for (const type of named(node)) wanted.set(type, `${entry} ${name}`);
		}
		const complain = (what) => wordless.push(`${entry} ${what}`);
		const sections = SECTIONS.flatMap(([title, is]) => {
			const these = own.filter(({ node }) => is(node));
			if (these.length === 0) return [];
			if (title === "Constants") {
				these.sort((a, b) =>
					a.node.getSourceFile() === b.node.getSourceFile()
						? a.node.getStart() - b.node.getStart()
						: a.node.getSourceFile().getFilePath() < b.node.getSourceFile().getFilePath()
							? -1
							: 1,
				);
				return [`### ${title}`, ...describeConstants(these, complain)];
			}
			return [`### ${title}`, ...these.map(({ name, node }) => describe(name, node, complain))];
		});
		const about = readFileSync(join(root, path), "utf8").match(/^\/\*\n(.*?)\*\//s)?.[1] ?? "";
		const parts = [`## ${entry}`, about.replace(/^ \* ?/gm, "").trim()];
		if (again.length > 0) parts.push(`Described above, and exported here too: ${again.join(", ")}.`);
		return [...parts, ...sections].join("\n\n");
	});
	const missing = [...wanted]
		.filter(([type]) => !exported.has(type))
		.map(([type, from]) => `${type}, named by ${from}`);
	return { markdown: `${INTRODUCTION}\n${pages.join("\n\n")}\n`, wordless, missing };
}

/** Writes docs/api.md, or compares it. @throws StepError when that or an entry is not in order */
function api(args) {
	const { markdown, wordless, missing } = readApi();
	for (const what of wordless) say("api", `no doc comment: ${what}`);
	for (const what of missing) say("api", `not exported: ${what}`);
	if (wordless.length + missing.length > 0) throw new StepError("the public entries are not complete");
	const page = join(root, "docs/api.md");
	if (!args.includes("--check")) writeFileSync(page, markdown);
	else if (readFileSync(page, "utf8") !== markdown) throw new StepError("docs/api.md is out of date: npm run api");
}

await main("api", async () => api(process.argv.slice(2)));
