/*
 * A name for a container that its user gave none: two words, as Docker does it.
 */
import { randomInt } from "node:crypto";

const QUALITIES =
	"able agile bold brave bright brisk calm clear clever cosy eager early easy fair fast fine firm fond frank free fresh gentle glad good grand happy hardy honest jolly keen kind light lively lucky mellow merry mild modest neat nimble noble open patient plain polite prompt proud quick quiet ready rich sharp shy silent smart smooth snug solid sound steady still strong sunny sweet swift tall tender tidy trusty upbeat vivid warm whole wise witty young zesty".split(
		" ",
	);
/** People to whom virtual machines, operating systems and computing owe something. */
const PEOPLE =
	"adams aiken allen amdahl babbage backus bartik bellard boole brinch brooks cerf cocke codd comba conway corbato creasy curie daley dennis dijkstra easley engelbart estrin feinler floyd forrester goldberg gray hamilton hamming hoare hopper huffman ingalls johnson joy kahn kay kernighan kilburn kleene knuth lamport lampson lamarr liskov lovelace mauchly mccarthy mcilroy meyer milner moore naur neumann noyce nygaard organick parnas perlis perlman popek postel rasmussen ritchie ross saltzer schroeder shannon steele strachey sutherland tanenbaum thompson torvalds turing varian wilkes wirth zuse".split(
		" ",
	);

/** "quick_hopper"; with a digit behind it where `taken` says that the first choices are in use. */
export function randomName(taken: (name: string) => boolean): string {
	for (let attempt = 0; ; attempt++) {
		const words = `${QUALITIES[randomInt(QUALITIES.length)]}_${PEOPLE[randomInt(PEOPLE.length)]}`;
		const name = attempt < 3 ? words : `${words}${randomInt(10 ** Math.min(attempt - 2, 9))}`;
		if (!taken(name)) return name;
	}
}
