import { expect, test } from "vitest";
import { formatRows, formatValues, type Listing } from "../../src/cli/format.ts";
import { parseTemplate } from "../../src/cli/template.ts";

const web = {
	ID: "0123456789ab",
	Names: "web",
	Running: true,
	Pid: 0,
	State: { Status: "running", ExitCode: 0 },
	Mounts: [{ Source: "/a" }, { Source: "/b" }],
	Labels: { b: "2", a: "1" },
	Env: ["A=1", "B=2"],
	Gone: undefined,
	Label: (name: string) => ({ a: "1" })[name] ?? "",
};

test.each([
	["{{.ID}} {{.Names}}", "0123456789ab web"],
	["{{ .State.Status }}", "running"],
	["{{json .State}}", '{"ExitCode":0,"Status":"running"}'],
	["{{json .Env}}|{{.Env}}|{{.Labels}}", '["A=1","B=2"]|[A=1 B=2]|map[a:1 b:2]'],
	["{{.Gone}}", "<no value>"],
	["{{upper .Names}} {{.Names | upper | lower}} {{title .Names}}", "WEB web Web"],
	['{{join .Env ", "}} {{len .Env}} {{len .Names}}', "A=1, B=2 2 3"],
	['{{index .Labels "a"}}{{index .Labels "none"}} {{index .Env 1}}', "1 B=2"],
	["{{(index .Mounts 1).Source}}", "/b"],
	['{{.Label "a"}}', "1"],
	["{{range .Mounts}}<{{.Source}}>{{end}}", "</a></b>"],
	["{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a=1;b=2;"],
	["{{range $m := .Mounts}}{{$m.Source}}{{$.Names}}{{end}}", "/aweb/bweb"],
	["{{range .Gone}}x{{else}}none{{end}}", "none"],
	["{{if .Running}}up{{else}}down{{end}}", "up"],
	["{{if .Pid}}a{{else if .Running}}b{{else}}c{{end}}", "b"],
	['{{if and .Running (eq .Names "web" "db")}}yes{{end}}', "yes"],
	["{{if or .Pid .Gone}}x{{end}}{{if not .Pid}}y{{end}}", "y"],
	["{{with .State}}{{.Status}}{{end}}{{with $x := .Names}}{{$x}}{{end}}", "runningweb"],
	["{{$n := .Names}}{{$n}}{{if .Running}}{{$n}}{{end}}", "webweb"],
	['{{printf "%-5s|%3d|%q" .Names .Pid .Names}}', 'web  |  0|"web"'],
	['{{"a}}b"}}{{`raw`}} {{/* a comment */}}{{true}}', "a}}braw true"],
	["a  {{- .Names -}}  b", "awebb"],
	["a  {{- /* */ -}}  b  {{- .Names }} c {{-1}}", "abweb c -1"],
	['{{lt 1 2}}{{ge 1 2}} {{split "a,b" ","}} {{truncate .ID 4}}', "truefalse [a b] 0123"],
])("parseTemplate: %s", (template, text) => {
	expect(parseTemplate(template)(web)).toBe(text);
});

test.each([
	["{{.ID", "a {{ has no }}"],
	["{{}}", "an action is empty"],
	["{{if .ID}}", "an {{end}} is missing"],
	["{{end}}", '"end" is not expected'],
	["{{if .ID}}{{else}}{{else}}{{end}}", '"else" is not expected'],
	["{{nope .ID}}", 'there is no function "nope"'],
	["{{.ID ?}}", '"?" is not understood'],
	["{{(.ID}}", "a ) is missing"],
	["{{.ID)}}", '")" is not expected'],
	["{{.ID |}}", "a value is missing"],
	["{{.ID 1}}", ".ID takes no arguments"],
	["{{$x}}", "there is no variable $x"],
	["{{index .Env 7}}", "index: there is no element 7"],
	["{{join .Pid 1}}", /^join: /],
	["{{.State.Nope}}", "there is no field .State.Nope (Nope); there are Status, ExitCode"],
	["{{.Names.Nope}}", "there is no field .Names.Nope (Nope)"],
	["{{.constructor}}", /^there is no field \.constructor/],
])("parseTemplate: %s is refused", (template, found) => {
	const attempt = () => parseTemplate(template)(web);
	expect(attempt).toThrow(expect.objectContaining({ code: "ERR_FORMAT" }));
	const prefix = `Cannot read format ${JSON.stringify(template)}: `;
	expect(attempt).toThrow(
		typeof found === "string"
			? expect.objectContaining({ message: prefix + found })
			: expect.objectContaining({ message: expect.stringMatching(found.source.replace("^", "")) }),
	);
});

const listing: Listing = { headings: { ID: "CONTAINER ID" }, table: "{{.ID}}\t{{.Names}}\t{{.Status}}" };
const rows = [
	{ ID: "1", Names: "a", Status: "Up 3 seconds", Label: () => "x" },
	{ ID: "22", Names: "a-longer-name", Status: "Created", Label: () => "y" },
];

test("formatRows: without a format it is Docker's table, at least ten wide and three apart", () => {
	const table = [
		"CONTAINER ID   NAMES           STATUS",
		"1              a               Up 3 seconds",
		"22             a-longer-name   Created",
	];
	expect(formatRows(rows, listing)).toBe(`${table.join("\n")}\n`);
	expect(formatRows(rows, listing, "table")).toBe(`${table.join("\n")}\n`);
	expect(formatRows([], listing)).toBe("CONTAINER ID   NAMES     STATUS\n");
});

test("formatRows: table TEMPLATE has headings, \\t is a tab", () => {
	expect(formatRows(rows, listing, "table {{.Names}}\\t{{.ID}}")).toBe(
		"NAMES           CONTAINER ID\na               1\na-longer-name   22\n",
	);
	expect(formatRows(rows, listing, 'table {{upper .Names}}\\t{{.Label "com.example"}}')).toBe(
		"NAMES           example\nA               x\nA-LONGER-NAME   y\n",
	);
});

test("formatRows: a template makes a line each, json an object each", () => {
	expect(formatRows(rows, listing, "{{.ID}}\\t{{.Status}}")).toBe("1\tUp 3 seconds\n22\tCreated\n");
	expect(formatRows(rows.slice(0, 1), listing, "json")).toBe('{"ID":"1","Names":"a","Status":"Up 3 seconds"}\n');
	expect(formatRows([], listing, "{{.ID}}")).toBe("");
});

test("formatValues: indented JSON, JSON on one line, or a template each", () => {
	const values = [{ Name: "b", Id: 1 }];
	expect(formatValues(values)).toBe(`${JSON.stringify(values, undefined, 4)}\n`);
	expect(formatValues(values, "json")).toBe('[{"Name":"b","Id":1}]\n');
	expect(formatValues([...values, { Name: "c" }], "{{.Name}}")).toBe("b\nc\n");
	expect(() => formatValues(values, "{{.Nope}}")).toThrow(expect.objectContaining({ code: "ERR_FORMAT" }));
});
