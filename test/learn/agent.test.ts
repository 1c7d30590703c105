/* Lab 9 and wrong attempts at it. */
import { labSuite } from "./attempts.ts";

labSuite(9, [
	{
		what: "every port open",
		edits: [["if (port !== AGENT_PORT) return undefined;", ""]],
		finding: "open(23) gives a stream",
	},
	{
		what: "a length that is big-endian",
		edits: [["length.writeUInt32LE(json.length)", "length.writeUInt32BE(json.length)"]],
		finding: /the host's frame begins with 000000[0-9a-f]{2}, a length of \d+/,
		hint: "little-endian",
	},
	{
		what: "a length in characters",
		edits: [["length.writeUInt32LE(json.length)", "length.writeUInt32LE(JSON.stringify(message).length)"]],
		finding: /the host's frame of \d+ bytes is no JSON/,
	},
	{
		what: "one frame of each piece",
		edits: [
			["while (this.#received.length >= LENGTH_BYTES)", "if (this.#received.length >= LENGTH_BYTES)"],
			["< LENGTH_BYTES + length) break;", "< LENGTH_BYTES + length) return null;"],
		],
		finding: /does not end within|has nothing left to do|output and exit came in one piece/,
		hangs: true,
	},
	{
		what: "text that is put together instead of bytes",
		edits: [
			[
				"this.#received = Buffer.concat([this.#received, bytes]);",
				"this.#received = Buffer.from(this.#received.toString() + bytes.toString());",
			],
		],
		finding: /does not end within|run, when each byte comes alone,|frames came byte by byte|throws/,
		hangs: true,
	},
	{
		what: "one output for all commands",
		edits: [["running.output += message.text", "for (const one of this.#running.values()) one.output += message.text"]],
		finding: "their answers came mixed, and they gave",
	},
	{
		what: "the same id for each command",
		edits: [["const id = this.#count++;", "const id = this.#count;"]],
		finding: "two commands at once have the same id, 0",
	},
	{
		what: "a guest that dies and leaves its caller waiting",
		edits: [['this.#failed(error ?? new Error("the agent is gone"));', ""]],
		finding: "when the guest dies in the middle of a command, run waits for ever",
	},
	{
		what: "any version",
		edits: [["if (message.version !== VERSION) throw", "if (message.version < 0) throw"]],
		finding: "when the agent speaks version 2, run waits for ever",
	},
	{
		what: "frames of any length",
		edits: [["if (length > MOST_BYTES) return", "if (length < 0) return"]],
		finding: "when a frame says that it has 4 GiB, run waits for ever",
	},
	{
		what: "text that is believed to be JSON",
		edits: [
			[
				"} catch (error) {\n\t\t\t\treturn error as Error;",
				"} catch (error) {\n\t\t\t\tif (error instanceof SyntaxError) setImmediate(() => { throw error; });\n\t\t\t\telse return error as Error;",
			],
		],
		finding: "when a frame holds no JSON",
	},
]);
