/*
 * Where the documentation's "file#symbol" is defined. A bare name is defined at the top of its file; "Class.member" and
 * "Class.#member" are members with a body or a value. A mention, a call and a line of an interface are no definition.
 */
import { ts } from "ts-morph";
import { textOf } from "./sources.ts";

/** "src/cli/boot.ts#bootCommand", "src/host/run-loop.ts#RunLoop.#wake" and "native/runloop.c#vcpu_thread". */
const REFERENCE =
	/((?:src|native|guests|test|docs)\/[\w./-]+\.(?:ts|c|h|S))#(#?[A-Za-z_][\w$]*(?:\.#?[A-Za-z_][\w$]*)?)/g;

/** A place that a page names. */
export interface Reference {
	readonly path: string;
	readonly symbol: string;
}

/** The references of a text, in its order. */
export function referencesIn(text: string): Reference[] {
	return [...text.matchAll(REFERENCE)].map(([, path, symbol]) => ({ path: path!, symbol: symbol! }));
}

const parsed = new Map<string, ts.SourceFile>();

/** A TypeScript file of the repository, parsed once. */
export function parse(path: string): ts.SourceFile {
	const file = parsed.get(path) ?? ts.createSourceFile(path, textOf(path), ts.ScriptTarget.Latest, true);
	parsed.set(path, file);
	return file;
}

/** The statement at the top of the file that defines `name`, or a variable of it. */
function topLevel(file: ts.SourceFile, name: string): ts.Node | undefined {
	for (const statement of file.statements) {
		if (ts.isVariableStatement(statement)) {
			const found = statement.declarationList.declarations.find((variable) => variable.name.getText() === name);
			if (found !== undefined) return found;
		} else if (
			ts.isFunctionDeclaration(statement) ||
			ts.isClassDeclaration(statement) ||
			ts.isInterfaceDeclaration(statement) ||
			ts.isTypeAliasDeclaration(statement) ||
			ts.isEnumDeclaration(statement)
		) {
			if (statement.name?.text === name) return statement;
		}
	}
	return undefined;
}

function definesMember(owner: ts.Node | undefined, name: string): boolean {
	if (owner === undefined || !ts.isClassDeclaration(owner)) return false;
	return owner.members.some((member) => {
		if (member.name?.getText() !== name) return false;
		return (
			ts.isPropertyDeclaration(member) || (ts.isClassElement(member) && "body" in member && member.body !== undefined)
		);
	});
}

/** A function with its body, a struct or a macro of C; a label of assembly. */
function definesInC(text: string, name: string): boolean {
	return new RegExp(
		`^(?:[a-z_][\\w \\t*]*[\\s*])?${name}\\([^;{]*\\)\\s*\\{|^(?:struct|enum|union)\\s+${name}\\s*\\{|^#define\\s+${name}\\b|^${name}:`,
		"m",
	).test(text);
}

/** Whether the file defines the symbol. */
export function defines({ path, symbol }: Reference): boolean {
	if (!path.endsWith(".ts")) return definesInC(textOf(path), symbol);
	const [owner, member] = symbol.split(".") as [string, string?];
	const found = topLevel(parse(path), owner);
	return member === undefined ? found !== undefined : definesMember(found, member);
}
