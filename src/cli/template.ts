/*
 * The part of Go's text/template that `--format` is used with: fields ({{.State.Status}}), pipelines, variables, if,
 * range, with, comments, trim markers, and Docker's functions (json, join, upper ...). A template is parsed once, into
 * functions of a scope.
 *
 *     text {{ pipeline }} text        pipeline = command { "|" command }, command = operand { operand }
 *
 * Values print as Go prints them: lists as [a b], maps as map[a:1 b:2], what is missing as <no value>.
 */
import { UsageError } from "../base/errors.ts";
import { entriesOf, FUNCTIONS, show, truth } from "./template-functions.ts";

/** A parsed template: a value in, text out. @throws UsageError ERR_FORMAT for a field that the value has not */
export type Template = (value: unknown) => string;

interface Scope {
	/** The value of ".". */
	readonly dot: unknown;
	readonly variables: ReadonlyMap<string, unknown>;
}
type Expression = (scope: Scope) => unknown;
/** A statement adds text to `out`. A declaration returns the scope for the statements after it. */
type Statement = (scope: Scope, out: string[]) => Scope | undefined;

/** Text between actions, or the words of one action. */
type Piece = string | readonly string[];
const KEYWORDS = ["if", "else", "end", "range", "with"];
const TOKEN =
	/\s*("(?:[^"\\]|\\.)*"|`[^`]*`|'(?:[^'\\]|\\.)'|:=|=|[|(),]|\$?\w*(?:\.\w+)+|\.|\$\w*|-?\d+(?:\.\d+)?|\w+)(\s|)/gy;

/**
 * Parses a template.
 *
 * @throws UsageError ERR_FORMAT that quotes what cannot be read
 * @example parseTemplate("{{.Name}} is {{upper .State.Status}}")({ Name: "web", State: { Status: "up" } }) // "web is UP"
 */
export function parseTemplate(text: string): Template {
	const parser = new Parser(text, split(text));
	const body = parser.block([]);
	return (value) => {
		const out: string[] = [];
		body({ dot: value, variables: new Map([["$", value]]) }, out);
		return out.join("");
	};
}

function wrong(text: string, found: string): UsageError {
	return new UsageError("ERR_FORMAT", `Cannot read format ${JSON.stringify(text)}: ${found}`, {
		hint: "Give json, or a Go template such as 'table {{.ID}}\\t{{.Names}}' or '{{json .}}'",
	});
}

function split(text: string): Piece[] {
	const pieces: Piece[] = [];
	let trim = false;
	for (let at = 0; at <= text.length; ) {
		const open = text.indexOf("{{", at);
		let plain = open < 0 ? text.slice(at) : text.slice(at, open);
		if (trim) plain = plain.trimStart();
		const trimsBefore = open >= 0 && /^\{\{-\s/.test(text.slice(open));
		pieces.push(trimsBefore ? plain.trimEnd() : plain);
		if (open < 0) break;
		const action = /^\{\{(?:-(?=\s))?((?:"(?:[^"\\]|\\.)*"|`[^`]*`|\/\*.*?\*\/|(?!\}\})[^"`])*)\}\}/s.exec(
			text.slice(open),
		);
		if (action === null) throw wrong(text, "a {{ has no }}");
		trim = /\s-$/.test(action[1]!);
		const words = trim ? action[1]!.slice(0, -1) : action[1]!;
		at = open + action[0].length;
		if (!/^\s*\/\*.*\*\/\s*$/s.test(words)) pieces.push(tokens(text, words));
	}
	return pieces;
}

/** A word that follows another without a space between, as the field in "(index . 0).Name", is marked with a "@". */
function tokens(text: string, action: string): string[] {
	const found: string[] = [];
	let end = 0;
	let spaced = true;
	for (const match of action.matchAll(TOKEN)) {
		end = match.index + match[0].length;
		const joined = !spaced && found.at(-1) === ")" && match[1]!.startsWith(".") && match[0].startsWith(".");
		found.push(joined ? `@${match[1]!}` : match[1]!);
		spaced = match[2] !== "";
	}
	if (action.slice(end).trim() !== "") throw wrong(text, `"${action.slice(end).trim()}" is not understood`);
	if (found.length === 0) throw wrong(text, "an action is empty");
	return found;
}

class Parser {
	readonly #text: string;
	readonly #pieces: Piece[];
	#next = 0;
	#words: string[] = [];

	constructor(text: string, pieces: Piece[]) {
		this.#text = text;
		this.#pieces = pieces;
	}

	/** Statements up to one of the keywords `ends`, whose words are then what `#words` holds. */
	block(ends: readonly string[]): Statement {
		const statements: Statement[] = [];
		for (;;) {
			const piece = this.#pieces[this.#next++];
			if (piece === undefined) {
				if (ends.length > 0) throw wrong(this.#text, "an {{end}} is missing");
				return inOrder(statements);
			}
			if (typeof piece === "string") {
				statements.push((_, out) => void out.push(piece));
				continue;
			}
			this.#words = [...piece];
			if (ends.includes(piece[0]!)) {
				this.#words.shift();
				return inOrder(statements);
			}
			statements.push(this.#statement());
			if (this.#words.length > 0) throw wrong(this.#text, `"${this.#words[0]}" is not expected`);
		}
	}

	#statement(): Statement {
		const [first, second] = this.#words;
		if (first === "if" || first === "with") return this.#conditional(this.#words.shift()!);
		if (first === "range") return this.#range();
		if (KEYWORDS.includes(first!)) throw wrong(this.#text, `"${first}" is not expected`);
		if (/^\$\w+$/.test(first!) && (second === ":=" || second === "=")) {
			this.#words.splice(0, 2);
			const value = this.#pipeline();
			return (scope) => ({ ...scope, variables: new Map(scope.variables).set(first!, value(scope)) });
		}
		const value = this.#pipeline();
		return (scope, out) => void out.push(show(value(scope)));
	}

	#conditional(keyword: string): Statement {
		const name = /^\$\w+$/.test(this.#words[0] ?? "") && this.#words[1] === ":=" ? this.#words[0] : undefined;
		if (name !== undefined) this.#words.splice(0, 2);
		const condition = this.#pipeline();
		const { body, otherwise } = this.#branches();
		return (scope, out) => {
			const value = condition(scope);
			const inner = name === undefined ? scope : bind(scope, [[name, value]]);
			if (truth(value)) body(keyword === "with" ? { ...inner, dot: value } : inner, out);
			else otherwise(inner, out);
			return undefined;
		};
	}

	#range(): Statement {
		this.#words.shift();
		const names: string[] = [];
		const assign = this.#words.indexOf(":=");
		if (assign > 0) names.push(...this.#words.splice(0, assign + 1).filter((word) => /^\$\w+$/.test(word)));
		const list = this.#pipeline();
		const { body, otherwise } = this.#branches();
		return (scope, out) => {
			const entries = entriesOf(list(scope));
			for (const [key, value] of entries) {
				const bound: [string, unknown][] =
					names.length === 2
						? [
								[names[0]!, key],
								[names[1]!, value],
							]
						: names.map((name) => [name, value]);
				body({ ...bind(scope, bound), dot: value }, out);
			}
			if (entries.length === 0) otherwise(scope, out);
			return undefined;
		};
	}

	/** Reads what follows an if, with or range, up to {{else}}, {{else if}} or {{end}}. */
	#branches(): { body: Statement; otherwise: Statement } {
		if (this.#words.length > 0) throw wrong(this.#text, `"${this.#words[0]}" is not expected`);
		const body = this.block(["else", "end"]);
		const ended = this.#pieces[this.#next - 1]![0] === "end";
		if (ended) return { body, otherwise: inOrder([]) };
		if (this.#words[0] === "if" || this.#words[0] === "with") {
			return { body, otherwise: this.#conditional(this.#words.shift()!) };
		}
		return { body, otherwise: this.block(["end"]) };
	}

	#pipeline(): Expression {
		let value = this.#command(undefined);
		while (this.#words[0] === "|") {
			this.#words.shift();
			value = this.#command(value);
		}
		return value;
	}

	/** A function and its arguments, or one operand. The value of a pipe is the last argument. */
	#command(piped: Expression | undefined): Expression {
		const [first] = this.#words;
		const { [first ?? ""]: call } = FUNCTIONS;
		if (call !== undefined) this.#words.shift();
		const operands: Expression[] = [];
		while (this.#words.length > 0 && this.#words[0] !== "|" && this.#words[0] !== ")") operands.push(this.#operand());
		if (call === undefined && operands.length === 0) throw wrong(this.#text, "a value is missing");
		if (piped !== undefined) operands.push(piped);
		if (call !== undefined) {
			return (scope) => {
				try {
					return call(...operands.map((operand) => operand(scope)));
				} catch (error) {
					throw error instanceof UsageError ? error : wrong(this.#text, `${first}: ${(error as Error).message}`);
				}
			};
		}
		const [target, ...rest] = operands as [Expression, ...Expression[]];
		if (rest.length === 0) return target;
		/* A method, as in {{.Label "name"}}. */
		return (scope) => {
			const method = target(scope);
			if (typeof method !== "function") throw wrong(this.#text, `${first} takes no arguments`);
			return method(...rest.map((operand) => operand(scope)));
		};
	}

	#operand(): Expression {
		const word = this.#words.shift()!;
		if (word === "(") {
			const inner = this.#pipeline();
			if (this.#words.shift() !== ")") throw wrong(this.#text, "a ) is missing");
			const after = this.#words[0]?.startsWith("@.") ? this.#words.shift()!.slice(1) : ".";
			return (scope) => this.#field(inner(scope), after);
		}
		if (word.startsWith(".")) return ({ dot }) => this.#field(dot, word);
		if (word.startsWith("$")) {
			const [name, ...fields] = word.split(".");
			return ({ variables }) => {
				if (!variables.has(name!)) throw wrong(this.#text, `there is no variable ${name}`);
				return this.#field(variables.get(name!), `.${fields.join(".")}`);
			};
		}
		const constant = constantOf(word);
		if (constant === undefined) throw wrong(this.#text, `there is no function "${word}"`);
		return () => constant.value;
	}

	#field(value: unknown, path: string): unknown {
		let at = value;
		for (const name of path.split(".").filter((part) => part !== "")) {
			if (typeof at !== "object" || at === null || !Object.hasOwn(at, name)) {
				const known = typeof at === "object" && at !== null && !Array.isArray(at) ? Object.keys(at) : [];
				const there = known.length > 0 && known.length <= 60 ? `; there are ${known.join(", ")}` : "";
				throw wrong(this.#text, `there is no field ${path} (${name})${there}`);
			}
			at = (at as Record<string, unknown>)[name];
		}
		return at;
	}
}

function inOrder(statements: readonly Statement[]): Statement {
	return (scope, out) => {
		let inner = scope;
		for (const statement of statements) inner = statement(inner, out) ?? inner;
		return undefined;
	};
}

function bind(scope: Scope, values: readonly [string, unknown][]): Scope {
	return values.length === 0 ? scope : { ...scope, variables: new Map([...scope.variables, ...values]) };
}

function constantOf(word: string): { value: unknown } | undefined {
	if (word.startsWith('"')) return { value: JSON.parse(word) };
	if (word.startsWith("`")) return { value: word.slice(1, -1) };
	if (/^-?\d/.test(word)) return { value: Number(word) };
	if (word === "true" || word === "false") return { value: word === "true" };
	return word === "nil" ? { value: undefined } : undefined;
}
