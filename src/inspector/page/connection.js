/*
 * The connection to tsvmm. The token comes with the address, behind "#", where no server and no other page sees it. It
 * is kept for this tab, and goes with each request in a header. A hidden page reads no frames.
 */

const KEY = "tsvmm-token";
const AGAIN_MS = 1000;

function takeToken() {
	const given = location.hash.slice(1);
	if (/^[0-9a-f]{32}$/.test(given)) {
		sessionStorage.setItem(KEY, given);
		/* So nobody reads it off the screen. */
		history.replaceState(null, "", location.pathname);
	}
	return sessionStorage.getItem(KEY) ?? "";
}

const token = takeToken();
const headers = { Authorization: `Bearer ${token}` };

/** @param {Response} response */
async function answerOf(response) {
	const answer = await response.json();
	if (!response.ok) throw new Error(answer.error);
	return answer;
}

/**
 * Asks for something.
 *
 * @param {string} name
 * @param {Record<string, string | number>} query
 * @returns {Promise<any>}
 */
export async function get(name, query) {
	const words = new URLSearchParams(Object.entries(query).map(([key, value]) => [key, String(value)]));
	return answerOf(await fetch(`/api/${name}?${words}`, { headers }));
}

/**
 * Makes something happen.
 *
 * @param {string} name
 * @param {object} [body]
 * @returns {Promise<any>}
 */
export async function post(name, body = {}) {
	return answerOf(await fetch(`/api/${name}`, { method: "POST", headers, body: JSON.stringify(body) }));
}

/**
 * What the stream calls.
 *
 * @typedef {object} Listener
 * @property {(line: any) => void} line a line has come
 * @property {(why: string) => void} lost there is no connection, and another try follows; or none, for a wrong token
 */

/**
 * Reads frames while the page is visible, from the positions of the last one on.
 *
 * @param {Listener} listener
 */
export function follow(listener) {
	/** @type {Record<string, number>} */
	let positions = {};
	let ended = false;
	/** @type {AbortController | undefined} */
	let reading;

	const read = async () => {
		const abort = new AbortController();
		reading = abort;
		try {
			const query = new URLSearchParams(Object.entries(positions).map(([name, at]) => [name, String(at)]));
			const response = await fetch(`/api/stream?${query}`, { headers, signal: abort.signal });
			if (!response.ok) throw new Error((await response.json()).error);
			for await (const text of linesOf(response)) {
				const line = JSON.parse(text);
				positions = line.positions ?? positions;
				ended ||= line.ended !== undefined;
				listener.line(line);
			}
			if (!ended) throw new Error("tsvmm does not answer");
		} catch (error) {
			if (!abort.signal.aborted) listener.lost(/** @type {Error} */ (error).message);
		} finally {
			if (reading === abort) reading = undefined;
		}
	};
	const next = () => {
		if (!ended && document.visibilityState === "visible" && reading === undefined) void read();
	};
	document.addEventListener("visibilitychange", () => {
		if (document.visibilityState === "hidden") reading?.abort();
		next();
	});
	setInterval(next, AGAIN_MS);
	next();
}

/** @param {Response} response */
async function* linesOf(response) {
	const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
	const decoder = new TextDecoder();
	let rest = "";
	for (;;) {
		const { done, value } = await reader.read();
		if (done) return;
		const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
		rest = lines.pop() ?? "";
		yield* lines;
	}
}
